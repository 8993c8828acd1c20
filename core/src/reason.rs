//! Every reason for which the broker says no: one closed list, used by answers, evidence, metrics and docs.
//! Wording for callers is not here: `http::answer` alone knows what a caller may learn.

use std::fmt;

macro_rules! reasons {
    ($($variant:ident $name:literal $meaning:literal;)*) => {
        /// Why the broker said no.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        pub enum Reason { $(#[doc = $meaning] $variant,)* }
        impl Reason {
            /// All reasons, in the order of the exchange's steps.
            pub const ALL: &'static [Reason] = &[$(Reason::$variant,)*];
            /// The stable snake_case name: in answers, evidence and metrics.
            pub fn name(self) -> &'static str { match self { $(Reason::$variant => $name,)* } }
            /// One sentence for operators and documentation.
            pub fn meaning(self) -> &'static str { match self { $(Reason::$variant => $meaning,)* } }
        }
    };
}

reasons! {
    // 1 limits and form
    FormInvalid "form_invalid" "The form breaks RFC 8693 or the broker's own parameter rules.";
    RateLimited "rate_limited" "Too many requests from this network, or of this repository's jobs.";
    ClientUnknown "client_unknown" "Who introspects did not prove to be a resource server of the configuration.";
    // 2 trust
    Malformed "malformed" "The token is not three strict base64url segments of strict JSON within the limits.";
    JweUnsupported "jwe_unsupported" "The token is encrypted (five segments).";
    DuplicateMember "duplicate_member" "A JSON member stands twice in the token.";
    HeaderForbidden "header_forbidden" "The token's header carries a member that would steer verification.";
    Crit "crit" "The token's header carries `crit`.";
    Nested "nested" "The token's header says that it holds another token (`cty`).";
    WrongType "wrong_type" "The token's `typ` is not `JWT`.";
    AlgNotAllowed "alg_not_allowed" "The header's `alg` is not that of the issuer's key.";
    KidMissing "kid_missing" "The token's header has no `kid`.";
    KidUnknown "kid_unknown" "The issuer publishes no usable key of this `kid`.";
    KidDenied "kid_denied" "An operator cut off the key of this `kid` (`deny_kids`).";
    IssuerUnknown "issuer_unknown" "The token's `iss` is not in the issuer table.";
    IssuerDisabled "issuer_disabled" "An operator cut off this issuer (`disabled`).";
    IssuerDown "issuer_down" "The issuer's keys could not be fetched, and no usable ones are left.";
    BadSignature "bad_signature" "The signature does not verify under the issuer's key.";
    ClaimMissing "claim_missing" "A claim that the profile demands is absent.";
    ClaimType "claim_type" "A claim has another type than the standard or the profile says.";
    ClaimSyntax "claim_syntax" "A canonical claim holds characters that its syntax does not allow.";
    Aud "aud" "The token's audience is not this broker.";
    AudMultiple "aud_multiple" "The token names more than one audience.";
    Exp "exp" "The token has expired, or has no expiry.";
    Iat "iat" "The token's issue time is missing or in the future.";
    Nbf "nbf" "The token is not valid yet.";
    Lifetime "lifetime" "The token lives longer than its issuer's profile allows.";
    Jti "jti" "The token has no usable `jti`.";
    // 3 workload
    ClaimsInconsistent "claims_inconsistent" "Claims of one token contradict each other.";
    Stranger "stranger" "The job's owner is not listed for this issuer.";
    // 4 delegation
    ActorNotAllowed "actor_not_allowed" "The token or the request names an actor, and no mapping takes it.";
    MayAct "may_act" "The token says who may act for it (`may_act`), and that is not who does.";
    ActMalformed "act_malformed" "The token's `act` does not name each actor by `iss` and `sub`.";
    ChainTooLong "chain_too_long" "More actors act one for another than the mapping, or the broker at all, takes.";
    ActorRepeated "actor_repeated" "One party stands twice in the chain of who acts for whom.";
    // 5 decision and plan
    ActorNeeded "actor_needed" "The mapping that would give the role demands that somebody acts for the job.";
    NoMapping "no_mapping" "No mapping gives this role to this job.";
    MappingExpired "mapping_expired" "The mapping that would give the role has had its time (`expires`).";
    Renamed "renamed" "A mapping pins this repository's id under another name.";
    IdMismatch "id_mismatch" "A mapping names this repository with another id: it was re-created, or is squatted.";
    EventNotAllowed "event_not_allowed" "Only the event keeps a mapping from matching.";
    Denied "denied" "A deny rule of the platform team holds.";
    RoleNeeded "role_needed" "Several roles are possible and the request names none.";
    ScopeNotAllowed "scope_not_allowed" "The role has no such scope.";
    TextDoesNotFit "text_does_not_fit" "A value does not fit the target's rules.";
    DurationTooShort "duration_too_short" "The lifetime is below the least that the role's backend gives.";
    NotAws "not_aws" "The request came in the words of AWS STS, and the role gives no AWS session.";
    PolicyNotNarrower "policy_not_narrower" "The session policy that was asked for cannot narrow the role's session, or AWS would refuse it.";
    // 6 admission
    Replay "replay" "The token was used before.";
    BeforeAdoption "before_adoption" "The token was issued before the store, which had lost records, was adopted.";
    InFlight "in_flight" "The same token is being exchanged right now.";
    Suspended "suspended" "An operator has suspended something of this job: its issuer, owner, repository, run, person, mapping or role.";
    LeaseEnded "lease_ended" "The lease of the token of ours that came as subject token was ended, or has had its time.";
    HandoffMismatch "handoff_mismatch" "The handoff token was made for another role or scope.";
    MappingLimit "mapping_limit" "The mapping's limit for this run or repository is used up.";
    StoreDown "store_down" "The store could not record the answer.";
    GrantUnknown "grant_unknown" "No such refresh token or authentication request is open.";
    CeremonyNeeded "ceremony_needed" "The grant waits until people have claimed it.";
    CeremonyDirect "ceremony_direct" "A handoff, a token of ours, or a request in the words of AWS STS is no way to wait for people.";
    CeremonyCrowded "ceremony_crowded" "Too many ceremonies are open for this repository, or too many jobs wait for one.";
    CeremonySlowDown "slow_down" "The job asks for its ceremony more often than it was told to.";
    CeremonyMismatch "ceremony_mismatch" "The request belongs to another job, or asks for something else.";
    CeremonyRejected "ceremony_rejected" "A person rejected it, too many codes were wrong, or the job withdrew it.";
    CeremonyExpired "ceremony_expired" "Nobody claimed it in time, or its job did not come for it.";
    CeremonyOutdated "ceremony_outdated" "The rule, or who may approve, is another by now, or something of it was suspended: what was claimed is void.";
    CeremonyUsed "ceremony_used" "What was claimed has been redeemed.";
    RefreshMismatch "refresh_mismatch" "The refresh token was given for another token or role.";
    RefreshEnded "refresh_ended" "The refresh token's family was ended, or its session is over.";
    RefreshReused "refresh_reused" "The refresh token had been used before: its family and their leases are ended.";
    // 7 issuance
    BackendRefused "backend_refused" "The backend refused; nothing was minted, and another try is in vain.";
    PolicyTooLarge "policy_too_large" "The role's session policy and tags exceed what the cloud takes; nothing was minted.";
    BackendDown "backend_down" "The backend could not be asked, said to come again, or did not answer; the lease says whether something may exist.";
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How far the caller had proven itself: decides what it may be told.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Standing {
    /// Nobody we know: gets the one constant answer.
    Stranger,
    /// A verified job of a listed owner.
    ProvenJob,
}
