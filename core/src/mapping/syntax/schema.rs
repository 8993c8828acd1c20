//! What may stand where, as data: the keys of every table, and what later versions will know.

/// A table of the language.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    Policy,
    Issuer,
    Team,
    Sensitivity,
    Deny,
    Never,
    Roles,
    Role,
    TeamFile,
    File,
    Set,
    Member,
    Mapping,
    Limit,
    /// `[mapping.actor]`: who may act.
    Actor,
    /// `[mapping.ceremony]`: whose word it waits for.
    Ceremony,
    /// `[sensitivity.X.ceremony]`: what no ceremony goes below.
    Floor,
    Tests,
    Test,
    /// `[mapping.match]`, `[file.match]`, `[deny.match]`, `require`: its keys are claims.
    Match,
}

impl Place {
    /// The keys that the table has.
    pub(crate) fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Policy => &["format", "issuer", "team", "sensitivity", "target", "deny", "never"],
            Self::Issuer => &["profile", "url", "owners", "tenancy", "on_rename", "trust_act"],
            Self::Team => &["path", "contact", "issuers", "approvers", "may"],
            Self::Sensitivity => &["max_duration", "needs_any", "ceremony"],
            Self::Deny => &["name", "reason", "issuers", "roles", "sensitivity", "match"],
            Self::Never => &["name", "issuers", "roles", "sensitivity", "match"],
            Self::Roles => &["role"],
            Self::Role => &[
                "description",
                "backend",
                "teams",
                "issuers",
                "targets",
                "sensitivity",
                "max_duration",
                "require",
                "jwt",
                "aws",
            ],
            Self::TeamFile => &["file", "set", "mapping", "test"],
            Self::File => &["issuer", "review_by", "match"],
            Self::Set => &["repositories"],
            Self::Member => &["name", "id"],
            Self::Mapping => &[
                "name",
                "description",
                "issuer",
                "roles",
                "any_repository",
                "any_event",
                "allow_mutable_identity",
                "duration",
                "max_duration",
                "max_session",
                "match",
                "any",
                "actor",
                "ceremony",
                "limit",
                "expires",
                "shadow",
            ],
            Self::Limit => &["per_run", "per_hour", "sts_uses_per_token"],
            Self::Actor => &["required", "audience", "max_depth", "match"],
            Self::Ceremony => &[
                "when",
                "remember",
                "claim_within",
                "valid_for",
                "approvers",
                "approvers_from",
                "quorum",
                "allow_self",
            ],
            Self::Floor => &["approvers", "quorum"],
            Self::Tests => &["test"],
            Self::Test => {
                &["name", "issuer", "workload", "claims", "actor", "audience", "expect", "roles", "role", "fails", "at"]
            }
            Self::Match => &[],
        }
    }
    pub(crate) fn has(self, key: &str) -> bool {
        self.keys().contains(&key)
    }
    /// How the table is written.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Policy => "policy.toml",
            Self::Issuer => "[issuer.*]",
            Self::Team => "[team.*]",
            Self::Sensitivity => "[sensitivity.*]",
            Self::Deny => "[[deny]]",
            Self::Never => "[[never]]",
            Self::Roles => "a role file",
            Self::Role => "[role.*]",
            Self::TeamFile => "a team's file",
            Self::File => "[file]",
            Self::Set => "[set.*]",
            Self::Member => "a repository",
            Self::Mapping => "[[mapping]]",
            Self::Limit => "[mapping.limit]",
            Self::Actor => "[mapping.actor]",
            Self::Ceremony => "[mapping.ceremony]",
            Self::Floor => "[sensitivity.*.ceremony]",
            Self::Tests => "a test file",
            Self::Test => "[[test]]",
            Self::Match => "[mapping.match]",
        }
    }
    /// The kind of file, in words.
    pub(super) fn file(self) -> &'static str {
        match self {
            Self::Policy | Self::Issuer | Self::Team | Self::Sensitivity | Self::Floor | Self::Deny | Self::Never => {
                "`policy.toml`"
            }
            Self::Roles | Self::Role => "a file under `roles/`",
            Self::Tests => "a file under `tests/`",
            _ => "a team's file",
        }
    }
    /// The file where a top-level table belongs, if it is one of another kind of file.
    pub(super) fn home_of_table(self, key: &str) -> Option<&'static str> {
        if !matches!(self, Self::Policy | Self::Roles | Self::TeamFile | Self::Tests) || self.has(key) {
            return None;
        }
        match key {
            "issuer" | "team" | "sensitivity" | "target" | "deny" | "never" | "format" => Some("`policy.toml`"),
            "role" => Some("`roles/*.toml`"),
            "file" | "set" | "mapping" => Some("a file below a team's path, `teams/<team>/*.toml`"),
            "test" => Some("`tests/*.toml` or a team's file"),
            _ => None,
        }
    }
    /// The table near this one that has the key: where a key slid under the wrong header.
    pub(crate) fn owner_of(self, key: &str) -> Option<&'static str> {
        let near: &[Place] = match self {
            Self::Policy => &[Self::Issuer, Self::Team, Self::Sensitivity, Self::Deny, Self::Never],
            Self::Issuer | Self::Team | Self::Sensitivity | Self::Floor | Self::Deny | Self::Never => {
                &[Self::Policy, Self::Issuer, Self::Team, Self::Sensitivity, Self::Deny, Self::Never]
            }
            Self::Roles => &[Self::Role],
            Self::Role => &[],
            Self::Tests => &[Self::Test],
            Self::Match => &[
                Self::Mapping,
                Self::Limit,
                Self::Actor,
                Self::Ceremony,
                Self::File,
                Self::Test,
                Self::Deny,
                Self::Role,
            ],
            _ => &[Self::File, Self::Set, Self::Mapping, Self::Limit, Self::Actor, Self::Ceremony, Self::Test],
        };
        near.iter().find(|place| **place != self && place.has(key) && key != "match").map(|place| place.title())
    }
    pub(super) fn remedy_for_missing(self, key: &str) -> String {
        match (self, key) {
            (Self::Policy, "format") => "write `format = 1` at the top of the file".into(),
            (Self::Member, "id") => {
                "write the forge's numeric id beside the name: a name can be given up and taken by a stranger, an id cannot".into()
            }
            (Self::Role, "teams") => "name the teams whose folders may bind the role: `teams = [\"…\"]`".into(),
            (Self::Deny, "reason") => "say for operators why this is denied: `reason = \"…\"`".into(),
            (Self::Mapping, "roles") => "name the roles it gives: `roles = [\"…\"]`".into(),
            (Self::Actor, "match") => {
                "say who may act below `[mapping.actor.match]`: `issuer = \"…\"`, and the conditions on its jobs".into()
            }
            (Self::Ceremony, "when") => {
                "write `when = \"every\"`: each issuance is claimed; or `when = \"first_use\"`: a workload once".into()
            }
            (Self::Test, "expect") => "write `expect = \"grant\"` with `roles`, or `expect = \"deny\"`".into(),
            _ => format!("write `{key} = …` below the header of `{}`", self.title()),
        }
    }
}

/// What to do instead of a key that a later version of the language has. `None`: no version has it.
pub(crate) fn later(place: Place, key: &str) -> Option<&'static str> {
    Some(match (place, key) {
        (Place::Issuer, "max_lifetime") => "remove it; the profile's own maximum stands",
        (Place::Role, "gcp" | "azure" | "vault" | "kubernetes" | "ssh" | "x509" | "github" | "database") => {
            "give the role an `aws` table, or a `jwt` one if the relying party accepts a signed token; otherwise leave the role out"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_is_both_known_and_of_a_later_version() {
        for place in
            [Place::Policy, Place::Issuer, Place::Team, Place::Sensitivity, Place::Mapping, Place::Actor, Place::Role]
        {
            assert!(place.keys().iter().all(|key| later(place, key).is_none()), "{place:?}");
        }
    }

    #[test]
    fn a_key_that_slid_under_the_wrong_header_finds_home() {
        assert_eq!(Place::Match.owner_of("roles"), Some("[[mapping]]"));
        assert_eq!(Place::Mapping.owner_of("review_by"), Some("[file]"));
        assert_eq!(Place::Mapping.owner_of("colour"), None);
    }
}
