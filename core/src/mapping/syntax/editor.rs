//! JSON Schema of the folder's files, so that an editor completes keys and marks unknown ones while one types.
//!
//! Which keys a table has comes from [`Place::keys`], the table that the parser reads by: the two cannot drift. What
//! is between keys (which of them belong together, which names exist) only `load` can judge, so nothing is required.
//! JSON Schema draft 2020-12, <https://json-schema.org/draft/2020-12>.

use super::Place;
use crate::{
    ceremony::QUORUM_MAX,
    mapping::{
        Exempt, When,
        compile::{CLAIMS, OPERATORS, STS_USES_MAX, WORKFLOW_PARTS, match_keys},
    },
    workload::{ACTORS_MAX, Claim, Kind, Profiles},
};
use serde_json::{Map, Value, json};

/// A kind of file of the mapping folder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileKind {
    /// `policy.toml`.
    Policy,
    /// `roles/*.toml`.
    Roles,
    /// `teams/<team>/**.toml`.
    Team,
    /// `tests/*.toml`.
    Tests,
}

impl FileKind {
    /// What a file of the folder is, by its path in it.
    pub fn of_path(path: &str) -> Option<Self> {
        match path.split_once('/') {
            None if path == "policy.toml" => Some(Self::Policy),
            _ if !path.ends_with(".toml") => None,
            Some(("roles", _)) => Some(Self::Roles),
            Some(("teams", _)) => Some(Self::Team),
            Some(("tests", _)) => Some(Self::Tests),
            _ => None,
        }
    }

    /// The keys of a table by its header, in the order in which they are written. Empty: its keys have no order.
    pub fn keys(self, header: &[&str]) -> &'static [&'static str] {
        let place = match (self, header) {
            (_, []) => self.place(),
            (Self::Policy, ["issuer", _]) => Place::Issuer,
            (Self::Policy, ["team", _]) => Place::Team,
            (Self::Policy, ["sensitivity", _]) => Place::Sensitivity,
            (Self::Policy, ["deny"]) => Place::Deny,
            (Self::Roles, ["role", _]) => Place::Role,
            (Self::Team, ["file"]) => Place::File,
            (Self::Team, ["set", _]) => Place::Set,
            (Self::Team, ["mapping"]) => Place::Mapping,
            (Self::Team, ["mapping", "limit"]) => Place::Limit,
            (Self::Team, ["mapping", "actor"]) => Place::Actor,
            (Self::Team, ["mapping", "ceremony"]) => Place::Ceremony,
            (Self::Policy, ["sensitivity", _, "ceremony"]) => Place::Floor,
            (Self::Team | Self::Tests, ["test"]) => Place::Test,
            _ => return &[],
        };
        place.keys()
    }

    fn place(self) -> Place {
        match self {
            Self::Policy => Place::Policy,
            Self::Roles => Place::Roles,
            Self::Team => Place::TeamFile,
            Self::Tests => Place::Tests,
        }
    }
}

/// The tables of a role's backends: the kind and its keys.
pub type BackendKeys<'b> = &'b [(&'b str, &'b [&'b str])];

/// The JSON Schema of a kind of file.
pub fn json_schema(kind: FileKind, backends: BackendKeys<'_>) -> Value {
    let mut schema = table(kind.place(), backends);
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!(kind.place().title());
    schema["$defs"] = json!({
        "name": { "type": "string", "pattern": "^[a-z0-9][a-z0-9-]{0,62}$" },
        "names": list(&json!({ "type": "string", "minLength": 1 })),
        "duration": { "type": "string", "pattern": "^[0-9]+[smhd]$", "description": "an integer and one of s m h d" },
        "id": { "type": ["integer", "string"], "description": "the immutable id, as the token carries it" },
        "repository": table(Place::Member, backends),
        "value": value(),
        "workflow": workflow("#/$defs/value"),
        "match": matches(),
    });
    schema
}

fn table(place: Place, backends: BackendKeys<'_>) -> Value {
    let entries = place.keys().iter().map(|key| ((*key).to_owned(), of(place, key, backends).unwrap_or(json!(true))));
    closed(entries.collect())
}

/// A table of these keys and no others.
fn closed(properties: Map<String, Value>) -> Value {
    json!({ "type": "object", "properties": properties, "additionalProperties": false })
}

fn list(of: &Value) -> Value {
    json!({ "type": "array", "items": of, "minItems": 1, "uniqueItems": true })
}

/// `[key.NAME]`.
fn named(of: &Value) -> Value {
    json!({ "type": "object", "propertyNames": { "$ref": "#/$defs/name" }, "additionalProperties": of })
}

/// What stands at a key. `None`: a key that nobody has described here yet, which a test tells.
fn of(place: Place, key: &str, backends: BackendKeys<'_>) -> Option<Value> {
    let described = |mut schema: Value, text: &str| {
        schema["description"] = json!(text);
        Some(schema)
    };
    let text = |what: &str| described(json!({ "type": "string", "minLength": 1 }), what);
    let name = |what: &str| described(json!({ "$ref": "#/$defs/name" }), what);
    let names = |what: &str| described(json!({ "$ref": "#/$defs/names" }), what);
    let duration = |what: &str| described(json!({ "$ref": "#/$defs/duration" }), what);
    let count = |what: &str| described(json!({ "type": "integer", "minimum": 1 }), what);
    let conditions = |what: &str| described(json!({ "$ref": "#/$defs/match" }), what);
    let tables = |of: Place, what: &str| described(json!({ "type": "array", "items": table(of, backends) }), what);
    match (place, key) {
        (Place::Policy, "format") => described(json!({ "const": 1 }), "version of the language"),
        (Place::Policy, "issuer") => described(named(&table(Place::Issuer, backends)), "who may be trusted"),
        (Place::Policy, "team") => described(named(&table(Place::Team, backends)), "who owns which files"),
        (Place::Policy, "sensitivity") => {
            described(named(&table(Place::Sensitivity, backends)), "what mappings of such roles must keep to")
        }
        (Place::Policy, "target") => {
            let texts = json!({ "type": "object", "additionalProperties": { "type": "string" } });
            described(named(&texts), "a sensitivity and texts that roles use as {target.KEY}")
        }
        (Place::Policy, "deny") => tables(Place::Deny, "beats every mapping"),
        (Place::Policy, "never") => tables(Place::Never, "proved when the folder loads: no such job gets such a role"),
        (Place::Issuer, "profile") => {
            // Own profiles have names of their own: examples, no enumeration.
            described(
                json!({ "type": "string", "examples": Profiles::builtin_names().collect::<Vec<_>>() }),
                "its kind",
            )
        }
        (Place::Issuer, "url") => text("the exact `iss` of its tokens"),
        (Place::Issuer, "owners") => described(
            json!({ "type": "object", "additionalProperties": { "$ref": "#/$defs/id" } }),
            "owners by name with their immutable ids; jobs of others are strangers",
        ),
        (Place::Issuer, "tenancy") => described(json!({ "enum": ["single", "multi"] }), "whether strangers share it"),
        (Place::Team, "path") => text("every file below it is the team's"),
        (Place::Team, "contact") => text("told to jobs that are refused"),
        (Place::Team, "issuers") => names("issuers that its mappings may use; left out: all"),
        (Place::Issuer, "on_rename") => described(
            json!({ "enum": ["refuse", "warn"] }),
            "what becomes of the right id under another name, where one repository is pinned",
        ),
        (Place::Issuer, "trust_act") => {
            described(json!({ "type": "boolean" }), "its tokens may say by whom the job is acted for (`act`)")
        }
        (Place::Team, "may") => {
            let exceptions = json!({ "enum": Exempt::ALL.map(Exempt::name) });
            described(json!({ "type": "array", "items": exceptions }), "exceptions that its mappings may claim")
        }
        (Place::Mapping, "any_repository") => {
            text("an exception, by its reason: every repository of the owner it pins")
        }
        (Place::Mapping, "any_event") => text("an exception, by its reason: every event, those to come included"),
        (Place::Mapping, "allow_mutable_identity") => {
            text("an exception, by its reason: repositories by name, without id")
        }
        (Place::Sensitivity, "needs_any") => {
            described(list(&json!({ "enum": ["branch", "tag", "ceremony"] })), "each mapping must narrow one of these")
        }
        (Place::Role | Place::Mapping | Place::Sensitivity, "max_duration") => duration("longest life of a credential"),
        (Place::Deny | Place::Never | Place::Test, "name") => text("what findings call it"),
        (Place::Deny, "reason") => text("why, for operators"),
        (Place::Deny | Place::Never | Place::Role, "issuers") => names("issuers of whose jobs it speaks"),
        (Place::Deny | Place::Never, "roles") => names("roles that it keeps; left out: all"),
        (Place::Role | Place::Deny | Place::Never, "sensitivity") => name("what kind of role this is about"),
        (Place::Deny | Place::Never | Place::File | Place::Mapping, "match") => {
            conditions("conditions on the job's claims; all must hold")
        }
        (Place::Roles, "role") => described(named(&table(Place::Role, backends)), "what can be had"),
        (Place::Role | Place::Mapping, "description") => text("for people"),
        (Place::Role, "backend") => text("who mints the credential"),
        (Place::Role, "teams") => names("whose files may bind it"),
        (Place::Role, "targets") => names("one role for each, `role.target`"),
        (Place::Role, "require") => {
            let by_issuer = json!({ "type": "object", "additionalProperties": { "$ref": "#/$defs/match" } });
            let both = json!({ "anyOf": [{ "$ref": "#/$defs/match" }, by_issuer] });
            described(both, "holds beside every mapping that binds the role; by issuer if there are several")
        }
        (Place::Role, kind) if backends.iter().any(|(known, _)| *known == kind) => {
            let keys = backends.iter().filter(|(known, _)| *known == kind).flat_map(|(_, keys)| *keys);
            let parameter = |key: &&str| ((*key).to_owned(), parameter(key));
            described(closed(keys.map(parameter).collect()), "parameters of the backend")
        }
        (Place::TeamFile, "file") => described(table(Place::File, backends), "holds for the whole file"),
        (Place::TeamFile, "set") => described(named(&table(Place::Set, backends)), "repositories under one name"),
        (Place::TeamFile, "mapping") => tables(Place::Mapping, "which jobs may have which roles"),
        (Place::TeamFile | Place::Tests, "test") => tables(Place::Test, "a job, and what it must get"),
        (Place::File | Place::Mapping | Place::Test, "issuer") => name("whose jobs"),
        // A local date or a text: editors hand dates on as texts.
        (Place::File, "review_by") => described(json!({ "type": "string" }), "when people look again; nothing stops"),
        (Place::Set, "repositories") => {
            described(list(&json!({ "$ref": "#/$defs/repository" })), "pairs of name and id")
        }
        (Place::Member, "name") => text("the full name, `owner/name`"),
        (Place::Member, "id") => described(json!({ "$ref": "#/$defs/id" }), "the immutable id"),
        (Place::Mapping, "name") => name("unique in the whole folder"),
        (Place::Mapping, "roles") => names("roles that it gives"),
        (Place::Mapping, "duration") => duration("given when the request asks for none"),
        (Place::Mapping, "max_session") => {
            duration("how long grants are renewed, for issuers whose jobs cannot ask for a second token")
        }
        (Place::Mapping, "any") => {
            described(list(&json!({ "$ref": "#/$defs/match" })), "alternatives, each beside `match`")
        }
        (Place::Mapping, "expires") => described(json!({ "type": "string" }), "from then on it grants nothing"),
        (Place::Mapping, "shadow") => described(json!({ "type": "boolean" }), "judged and recorded, grants nothing"),
        (Place::Mapping, "actor") => {
            described(table(Place::Actor, backends), "who may act for its jobs; left out: nobody")
        }
        (Place::Actor, "required") => described(json!({ "type": "boolean" }), "a job for which nobody acts is refused"),
        (Place::Actor, "audience") => text(
            "for downstream exchanges alone: what the actor brings for the job is a token of ours for this audience",
        ),
        (Place::Actor, "max_depth") => described(
            json!({ "type": "integer", "minimum": 1, "maximum": ACTORS_MAX }),
            "most actors that act one for another; left out: 1",
        ),
        (Place::Actor, "match") => {
            let mut schema = matches();
            schema["properties"]["issuer"] = json!({ "$ref": "#/$defs/name" });
            described(schema, "the outermost actor: its issuer, and conditions on its claims; all must hold")
        }
        (Place::Mapping, "ceremony") => {
            described(table(Place::Ceremony, backends), "people claim its grants before they are given")
        }
        (Place::Sensitivity, "ceremony") => {
            described(table(Place::Floor, backends), "what no ceremony for such a role goes below")
        }
        (Place::Team | Place::Ceremony | Place::Floor, "approvers") => {
            names("who may claim: NAME:group:…, NAME:email:… or NAME:sub:…, NAME of a [[sign_in]]")
        }
        (Place::Ceremony, "when") => {
            described(json!({ "enum": When::ALL.map(When::name) }), "each issuance, or a workload once")
        }
        (Place::Ceremony, "remember") => {
            names("claims that a first use is remembered by; left out: all that is matched")
        }
        (Place::Ceremony, "claim_within") => duration("when a request nobody claimed is over"),
        (Place::Ceremony, "valid_for") => duration("how long the claim of a first use stands"),
        (Place::Ceremony, "approvers_from") => text("a claim set by administrators that names one more group"),
        (Place::Ceremony | Place::Floor, "quorum") => {
            described(json!({ "type": "integer", "minimum": 1, "maximum": QUORUM_MAX }), "distinct people")
        }
        (Place::Ceremony, "allow_self") => text("an exception, by its reason: who started the job may claim it"),
        (Place::Mapping, "limit") => described(table(Place::Limit, backends), "counted for each repository"),
        (Place::Limit, "per_run") => count("grants in one run of the CI system"),
        (Place::Limit, "per_hour") => count("grants in an hour"),
        (Place::Limit, "sts_uses_per_token") => described(
            json!({ "type": "integer", "minimum": 1, "maximum": STS_USES_MAX }),
            "leases of one token through the STS look-alike, where jobs cannot get another token",
        ),
        (Place::Test, "workload") => {
            described(workload(), "the job in canonical claims; ids that the folder knows are filled in")
        }
        (Place::Test, "actor") => {
            let mut schema = workload();
            schema["properties"]["issuer"] = json!({ "$ref": "#/$defs/name" });
            described(schema, "who acts for the job: its issuer, and its canonical claims")
        }
        (Place::Test, "audience") => text("with `actor`: it exchanges a token of ours for this audience, downstream"),
        (Place::Test, "claims") => described(json!({ "type": "object" }), "the job as its token writes it"),
        (Place::Test, "expect") => described(json!({ "enum": ["grant", "pending", "deny"] }), "what must come out"),
        (Place::Test, "roles") => names("with `grant` and `pending`: exactly these roles"),
        (Place::Test, "role") => text("with `deny`: the role that is not given"),
        (Place::Test, "fails") => names("with `deny`: exactly the conditions that fail"),
        (Place::Test, "at") => described(json!({ "type": "string" }), "the moment of the request"),
        _ => None,
    }
}

/// A parameter of a backend, which only the backend judges.
fn parameter(key: &str) -> Value {
    match key {
        "session_tags" => json!({ "type": "object", "additionalProperties": { "type": "string" } }),
        "policy_arns" => json!({ "$ref": "#/$defs/names" }),
        _ => json!({ "type": "string", "minLength": 1 }),
    }
}

/// The value of a claim: bare, a list, a pair, or an operator.
fn value() -> Value {
    let operand = |operator: &&str| {
        let schema = match *operator {
            "glob" | "under" | "not_prefix" | "set" | "class" => json!({ "type": "string", "minLength": 1 }),
            "absent" | "present" => json!({ "const": true }),
            "if_unknown" => json!({ "const": "ignore" }),
            "all" | "any" => json!({ "type": "array", "items": { "$ref": "#/$defs/value" }, "minItems": 1 }),
            _ => json!(true),
        };
        ((*operator).to_owned(), schema)
    };
    json!({ "anyOf": [
        { "type": ["string", "integer", "boolean"] },
        { "type": "array", "items": { "anyOf": [{ "type": ["string", "integer"] }, { "$ref": "#/$defs/repository" }] }, "minItems": 1 },
        closed(OPERATORS.iter().map(operand).collect()),
        { "$ref": "#/$defs/repository" },
    ] })
}

/// A workflow by its parts, each written as `part`.
fn workflow(part: &str) -> Value {
    let parts = WORKFLOW_PARTS.iter().map(|key| ((*key).to_owned(), json!({ "$ref": part })));
    let gaps = ["absent", "present"].map(|key| (key.to_owned(), json!({ "const": true })));
    closed(parts.chain(gaps).collect())
}

fn matches() -> Value {
    let condition = |key: &'static str| match Claim::from_name(key) {
        Some(claim) if claim.kind() == Kind::Boolean => {
            (key.to_owned(), json!({ "anyOf": [{ "type": "boolean" }, { "type": "object" }] }))
        }
        Some(_) => (key.to_owned(), json!({ "$ref": "#/$defs/value" })),
        None => (key.to_owned(), json!({ "$ref": "#/$defs/workflow" })),
    };
    let raw = json!({
        "type": "object",
        "additionalProperties": { "$ref": "#/$defs/value" },
        "description": "claims without a canonical name, nested ones by JSON pointer",
    });
    closed(match_keys().map(condition).chain([(CLAIMS.to_owned(), raw)]).collect())
}

/// A test's job: like a match table, with exact values alone.
fn workload() -> Value {
    let exact = |key: &'static str| match Claim::from_name(key) {
        Some(_) => (key.to_owned(), json!({ "type": ["string", "integer", "boolean"] })),
        None => {
            let parts = WORKFLOW_PARTS.iter().map(|part| ((*part).to_owned(), json!({ "type": "string" })));
            (key.to_owned(), closed(parts.collect()))
        }
    };
    let raw = json!({ "type": "object", "description": "what the token says beside the canonical claims" });
    closed(match_keys().map(exact).chain([(CLAIMS.to_owned(), raw)]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKENDS: BackendKeys<'_> = &[("jwt", &["audience"]), ("aws", &["role_arn"])];

    #[test]
    fn every_key_of_every_table_is_described() {
        let places = [
            Place::Policy,
            Place::Issuer,
            Place::Team,
            Place::Sensitivity,
            Place::Deny,
            Place::Never,
            Place::Roles,
            Place::Role,
            Place::TeamFile,
            Place::File,
            Place::Set,
            Place::Member,
            Place::Mapping,
            Place::Limit,
            Place::Actor,
            Place::Tests,
            Place::Test,
        ];
        for place in places {
            assert!(!place.keys().is_empty(), "{place:?}");
            for key in place.keys() {
                let schema = of(place, key, BACKENDS);
                let described = schema.is_some_and(|schema| schema["description"].is_string());
                assert!(described, "describe `{key}` of `{}` in `of`", place.title());
            }
        }
    }

    #[test]
    fn a_table_has_the_parsers_keys_and_no_others() {
        for kind in [FileKind::Policy, FileKind::Roles, FileKind::Team, FileKind::Tests] {
            let schema = json_schema(kind, BACKENDS);
            let keys: Vec<_> = schema["properties"].as_object().expect("a table").keys().map(String::as_str).collect();
            let mut known = kind.place().keys().to_vec();
            known.sort_unstable();
            assert_eq!(keys, known);
            assert_eq!(schema["additionalProperties"], false);
        }
        let team = json_schema(FileKind::Team, BACKENDS);
        let conditions = team["$defs"]["match"]["properties"].as_object().expect("a table");
        assert!(conditions.contains_key("job_workflow") && !conditions.contains_key("job_workflow.ref"));
    }
}
