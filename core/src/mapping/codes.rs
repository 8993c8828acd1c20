//! The stable codes of the mapping folder's findings, in one place.
//!
//! A code never changes its meaning and is never used again for another; each has a page under `docs/diagnostics/`,
//! which `claimbound check --explain` prints.

use crate::diag::Code;

macro_rules! codes {
    ($($name:ident $number:literal $title:literal;)*) => {
        $(#[doc = $title] pub const $name: Code = Code($number);)*
        /// Every code that a folder can give before its roles meet their backends, with its title, in order.
        pub const ALL: &[(Code, &str)] = &[$((Code($number), $title),)*];
    };
}

codes! {
    NO_POLICY 101 "the folder has no `policy.toml`";
    TOML_SYNTAX 102 "the file is not TOML";
    UNKNOWN_KEY 103 "a key that the language does not have";
    MISPLACED_TABLE 104 "a table in a file where it may not stand";
    WRONG_TYPE 105 "a value of the wrong type";
    MISSING_KEY 106 "a key that must be written is missing";
    NOT_UTF8 107 "the file is not UTF-8";
    BYTE_ORDER_MARK 108 "the file begins with a byte order mark";
    FILE_TOO_LARGE 109 "the file is too large";
    TOO_DEEP 110 "values are nested too deep";
    MISPLACED_KEY 111 "a key under the wrong table";
    SUBTABLE_FIRST 112 "a table stands before the array it belongs to";
    TOML_1_1 113 "syntax that only TOML 1.1 has";
    UNKNOWN_FORMAT 114 "an unknown format of the language";
    UNEXPECTED_FILE 115 "a file where the folder holds none";
    POLICY_NOT_JSON 116 "a file under `policies/` is not JSON";
    KEY_REPEATED 117 "a key or table is written twice";
    NO_DESCRIPTION 118 "a role or mapping without description";
    BAD_DATE 119 "a date or time that is none";
    SPECIAL_FILE 120 "something in the folder that is no regular file";
    LINK_OUTSIDE 121 "a link that leads out of the folder";
    WRITABLE_BY_OTHERS 122 "a file that others may write";
    FOLDER_TOO_LARGE 123 "the folder is too large";
    BAD_NAME 201 "a name outside the syntax of names";
    NAME_TAKEN 202 "a name is used twice";
    RESERVED_NAME 203 "a name that means something else";
    UNKNOWN_ISSUER 204 "an issuer that `policy.toml` does not declare";
    UNKNOWN_TEAM 205 "a team that `policy.toml` does not declare";
    UNKNOWN_ROLE 206 "a role that no file declares";
    UNKNOWN_SET 207 "a set that this file does not declare";
    UNKNOWN_TARGET 208 "a target that `policy.toml` does not declare";
    UNKNOWN_PROFILE 209 "an issuer profile that does not exist";
    UNKNOWN_SENSITIVITY 210 "a sensitivity that `policy.toml` does not declare";
    URL_TAKEN 211 "two issuers have one URL";
    URL_FORM 212 "an issuer URL that its profile does not have";
    URL_SLASH 213 "an issuer URL ends in a slash";
    TEAM_PATH 214 "a team path that is no folder under `teams/`";
    TEAM_PATHS_NESTED 215 "one team's path lies inside another's";
    UNOWNED_FILE 216 "a file under `teams/` that no team owns";
    UNUSED_SET 217 "a set that nothing uses";
    PROFILE_FILE 218 "a profile file that cannot be read";
    PROFILE_TAKEN 219 "a profile file with the name of another profile";
    FIXED_AUDIENCE 220 "an issuer whose tokens are never for a broker";
    STAR_IN_BARE_VALUE 301 "a bare value holds `*`";
    NATIVE_CLAIM 302 "a claim by its issuer's own name";
    UNKNOWN_CLAIM 303 "a claim that does not exist";
    EMPTY_LIST 304 "an empty list or table";
    BAD_PATTERN 305 "a pattern that cannot be read";
    BAD_OPERATOR 306 "a value in a form that the claim does not take";
    BAD_ID 307 "an id outside its issuer's syntax";
    CLAIM_NOT_PROVIDED 308 "a claim that the issuer never sends";
    KEY_IN_BOTH 309 "one claim in `[file.match]` and `[mapping.match]`";
    BAD_TEXT 310 "a text that no claim can have";
    REF_FORM 311 "a ref in the wrong form";
    WORKFLOW_FORM 312 "a workflow that is not written by its parts";
    MEMBER_REPEATED 313 "one thing is listed twice";
    NO_CONDITIONS 314 "a rule without conditions";
    REPOSITORY_FORM 315 "a repository that is not `owner/name`";
    NOT_PAIRED 316 "names and ids of repositories that are not paired";
    NOT_PINNED 401 "a mapping on a shared issuer pins no repository id";
    OWNERS_MISSING 402 "a shared issuer without `owners`";
    OWNER_NOT_LISTED 403 "an owner that `owners` does not list";
    TENANCY 404 "`tenancy` that the profile does not allow";
    ROLE_NOT_FOR_TEAM 405 "a role that the team may not bind";
    ISSUER_NOT_FOR_TEAM 406 "an issuer that the team may not use";
    ISSUER_NOT_FOR_ROLE 407 "a role that is not given to the issuer's jobs";
    PRODUCTION_NOT_PINNED 408 "a production mapping pins no repository id";
    PRODUCTION_ISSUERS 409 "a production role without `issuers`";
    PAIRED_TWICE 410 "one repository name with two ids";
    NOT_NARROW 411 "a mapping that is not as narrow as its role's sensitivity demands";
    EVENTS_UNTOLD 412 "a production mapping on an issuer that does not tell pull requests from pushes";
    RAW_JUDGED 413 "a raw claim that the broker judges by itself";
    RAW_UNLISTED 414 "a raw claim that no profile knows";
    RAW_TYPE 415 "a raw claim is asked for a value of another type";
    RAW_ABSENT 416 "a raw claim is asked to be absent";
    RAW_NAME 417 "a name of a raw claim that cannot be read";
    RAW_DIFFERS 418 "a raw claim that is a list for some issuers alone";
    BAD_DURATION 501 "a duration that is none";
    ABOVE_SENSITIVITY 502 "a role's maximum above its sensitivity's";
    DURATION_ABOVE_MAX 503 "a duration above its own maximum";
    NO_SENSITIVITY 504 "a role without sensitivity";
    SENSITIVITY_LOWERED 505 "a role lowers its target's sensitivity";
    UNKNOWN_TARGET_KEY 506 "`{target.…}` names a key that the target does not have";
    BAD_PLACEHOLDER 507 "a placeholder that cannot be read";
    PLACEHOLDER_NOT_FIXED 508 "`{claim.…}` names a claim that nothing fixes";
    BACKEND_TABLE 509 "a role without its one backend table";
    MAX_ABOVE_ROLE 510 "a mapping's duration above what its role gives";
    REQUIRE_FORM 511 "`require` that does not say for which issuer";
    SENSITIVITY_MAX 512 "a sensitivity without `max_duration`";
    EVENTS_DIFFER 513 "roles of one mapping differ in whether they name events";
    EXPIRED 514 "a mapping that has expired";
    REVIEW_DUE 515 "a file whose `review_by` has passed";
    TOO_MANY_ALTERNATIVES 516 "too many alternatives in one mapping";
    BAD_SESSION 517 "a session that cannot be";
    SESSION_WITHOUT_USE 518 "a `max_session` that lets nothing be renewed";
    BAD_LIMIT 520 "a limit that is none";
    EXCEPTION_NOT_ALLOWED 521 "an exception that the team may not claim";
    EXCEPTION_REASON 522 "an exception without a reason";
    EXCEPTION_WITHOUT_GROUND 523 "an exception without what it rests on";
    EXCEPTION_CONTRADICTED 524 "an exception that its own mapping contradicts";
    EXCEPTION_NOT_NEEDED 525 "an exception that changes nothing";
    ANY_REPOSITORY_IN_PRODUCTION 526 "production for any repository without an exact called workflow";
    EXCEPTION 527 "a mapping that rests on an exception";
    UNKNOWN_EXCEPTION 528 "an exception that does not exist";
    ON_RENAME 529 "`on_rename` that says nothing";
    BAD_DEPTH 530 "a `max_depth` that is none";
    TRUST_ACT 531 "`trust_act` on an issuer whose jobs set claims";
    BAD_CEREMONY 532 "a ceremony that cannot be";
    NO_APPROVERS 533 "a ceremony that nobody can claim";
    APPROVER_FORM 534 "an approver that names nobody";
    CEREMONY_UNBOUND 535 "a ceremony that another job of the run could redeem";
    BAD_ACTOR_AUDIENCE 536 "an actor's `audience` that is none";
    STS_USES 550 "several uses of a token where one is the rule";
    TEST_ROLES 601 "a test's job may have other roles than the test says";
    TEST_GRANTED 602 "a test's job is granted what the test denies";
    TEST_FAILS 603 "other conditions fail than a test says";
    TEST_WORKLOAD 604 "what a test gives is no job";
    TEST_ROLE 605 "a test names a role that does not exist";
    TEST_FORM 610 "a test that does not say one thing";
    OVERLAP 701 "two mappings can give one role to one job";
    OVERLAP_UNDECIDED 702 "whether two mappings overlap cannot be decided";
    NEVER_BROKEN 703 "a mapping that gives what a `[[never]]` rules out";
    NEVER_UNDECIDED 704 "whether a `[[never]]` holds cannot be decided";
    UNUSED_ROLE 710 "a role that no mapping gives";
    NEVER_MATCHES 711 "a mapping that no job can match";
    SHADOWED_BY_DENY 712 "a mapping whose jobs are all denied";
    CUT_BY_DENY 713 "a mapping some of whose jobs are denied";
    ENVIRONMENT_WITHOUT_REF 714 "a production mapping by environment alone";
    TAG_ALONE 715 "a production mapping by a pattern of tags alone";
    WORKFLOW_AT_ANY_REF 716 "a called workflow at any ref";
    DENY_ON_UNSENT 717 "a deny on a claim that an issuer never sends";
    WIDER_BESIDE 718 "a value that a wider one beside it makes meaningless";
    ALTERNATIVE_WITHIN 719 "an alternative that another one holds already";
    CUT_BY_REQUIRE 720 "a mapping some of whose jobs the role's `require` refuses";
    EVERY_REF 721 "a mapping that every ref matches";
    NO_REPOSITORY 722 "a mapping that names no repository and no owner";
    BRANCH_UNPROTECTED 723 "a branch by its name where the issuer tells protected ones";
    OWN_WORKFLOW_AT_ANY_REF 724 "a workflow of the job's own at any ref";
    PINNED_TO_COMMIT 725 "a workflow pinned to a commit";
    COMMIT_AS_REF 726 "a commit where a ref stands";
    UNUSED_TARGET 727 "a target that no role has";
    TEST_ELSEWHERE 728 "a test of a denial whose job no mapping is about";
    CROWD 729 "very many mappings that each job of one owner is compared with";
    SUBJECT_IDS_OPEN 730 "a wildcard where a subject has its ids";
    PERSON_BY_NAME 731 "a person by a name that somebody else may take";
    OUTSIDER_EVENT 732 "an event that outsiders can cause";
    AUTHOR_SET 733 "a raw claim that the author of the job sets";
    ACTOR_NOT_REQUIRED 734 "production that needs nobody who acts, beside those who may";
    ACTOR_AUDIENCE 735 "tokens of who acts for an audience that another role has, too";
    CEREMONY_IN_SHADOW 736 "a ceremony of a mapping that grants nothing";
    AUDIENCE_OF_NOBODY 737 "a downstream exchange of tokens that no role makes";
    LATER_KEY 901 "a key that is not available in this version yet";
    LATER_BACKEND 903 "a backend that is not available in this version yet";
}

#[cfg(test)]
mod tests {
    #[test]
    fn codes_ascend_so_none_is_used_twice() {
        assert!(super::ALL.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }
}
