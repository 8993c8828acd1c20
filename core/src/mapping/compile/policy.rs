//! `policy.toml`: issuers, teams, sensitivities, targets. Denies wait until roles are known.

use super::{ceremony, conditions::is_match_key, duration, names, teams::may};
use crate::{
    ceremony::Approver,
    diag::{Diagnostic, Span, did_you_mean},
    mapping::{
        CeremonyFloor, Issuer, Team, codes,
        syntax::{Entry, Fields, Findings, Place, Tree, Value},
    },
    time::Seconds,
    workload::{Claim, Profile, Profiles, Tenancy},
};
use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};
use toml::de::DeValue;

/// The version of the language that this release reads.
const FORMAT: &str = "1";
/// Ceiling of `production` where policy.toml sets none.
const PRODUCTION_MAX_SECONDS: Seconds = Seconds(3_600);
/// Ceiling of `internal` where policy.toml sets none.
const INTERNAL_MAX_SECONDS: Seconds = Seconds(12 * 3_600);
/// Its mappings always pin ids, its roles always name their issuers.
pub(super) const PRODUCTION: &str = "production";

/// What a mapping of a sensitive role must narrow.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Narrow {
    Branch,
    Tag,
    /// A ceremony, unless the mapping is in the shadow.
    Ceremony,
}

#[derive(Clone, Debug)]
pub(super) struct Sensitivity {
    pub(super) max: Seconds,
    /// Any of these; empty: nothing demanded.
    pub(super) needs_any: Vec<Narrow>,
    /// `[sensitivity.X.ceremony]`.
    pub(super) floor: Option<CeremonyFloor>,
}

/// `[target.*]`: texts for `{target.x}`.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) sensitivity: Option<String>,
    pub(super) values: BTreeMap<String, String>,
    pub(super) span: Span,
}

/// A team with what its mappings may use.
#[derive(Clone, Debug)]
pub(super) struct TeamRules {
    pub(super) team: Team,
    /// `None`: every issuer.
    pub(super) issuers: Option<Vec<String>>,
    /// Who claims, where a ceremony does not say.
    pub(super) approvers: Vec<Approver>,
    pub(super) span: Span,
}

#[derive(Default, Debug)]
pub(super) struct Policy<'p> {
    pub(super) issuers: Vec<Issuer>,
    /// At the issuer's number.
    pub(super) profiles: Vec<&'p Profile>,
    pub(super) teams: Vec<TeamRules>,
    /// Positions in `teams`.
    by_path: BTreeMap<String, usize>,
    team_names: HashSet<String>,
    pub(super) sensitivities: BTreeMap<String, Sensitivity>,
    pub(super) targets: BTreeMap<String, Target>,
    /// Declared, but without profile or URL: no second finding for who uses them.
    pub(super) faulty_issuers: Vec<String>,
}

impl<'p> Policy<'p> {
    pub(super) fn issuer(&self, name: &str) -> Option<(u16, &Issuer, &'p Profile)> {
        let at = self.issuers.iter().position(|issuer| &*issuer.name == name)?;
        Some((at as u16, &self.issuers[at], self.profiles[at]))
    }
    /// The team that owns a file.
    pub(super) fn owner_of(&self, file: &str) -> Option<&TeamRules> {
        above(file).find_map(|folder| self.by_path.get(folder)).map(|at| &self.teams[*at])
    }
    /// Teams whose path is this one, above it or below it.
    fn nested(&self, path: &str) -> impl Iterator<Item = &TeamRules> {
        let below = format!("{path}/");
        let inside = self.by_path.range(below.clone()..).take_while(move |(other, _)| other.starts_with(&below));
        let outside = above(path).chain([path]).filter_map(|folder| self.by_path.get(folder));
        outside.chain(inside.map(|(_, at)| at)).map(|at| &self.teams[*at])
    }
    fn add_team(&mut self, rules: TeamRules) {
        self.by_path.entry(rules.team.path.clone()).or_insert(self.teams.len());
        self.team_names.insert(rules.team.name.clone());
        self.teams.push(rules);
    }
    /// Checks a reference to an issuer; false where it is not to be followed.
    pub(super) fn knows_issuer(&self, name: &str, span: &Span, findings: &mut Findings) -> bool {
        if self.faulty_issuers.iter().any(|faulty| faulty == name) {
            findings.told();
            return false;
        }
        let known = self.issuers.iter().map(|issuer| &*issuer.name);
        names::known(codes::UNKNOWN_ISSUER, "issuer", name, known, span, "`policy.toml`", findings)
    }
    pub(super) fn knows_team(&self, name: &str, span: &Span, findings: &mut Findings) -> bool {
        if self.team_names.contains(name) {
            return true;
        }
        let known = self.teams.iter().map(|rules| rules.team.name.as_str());
        names::known(codes::UNKNOWN_TEAM, "team", name, known, span, "`policy.toml`", findings)
    }
    pub(super) fn knows_sensitivity(&self, name: &str, span: &Span, findings: &mut Findings) -> bool {
        let known = self.sensitivities.keys().map(String::as_str);
        names::known(codes::UNKNOWN_SENSITIVITY, "sensitivity", name, known, span, "`policy.toml`", findings)
    }
    /// Whether `to` demands at least what `from` demands: then a role may move its target's sensitivity so.
    pub(super) fn raises(&self, from: &str, to: &str) -> bool {
        if from == to {
            return true;
        }
        let (Some(low), Some(high)) = (self.sensitivities.get(from), self.sensitivities.get(to)) else { return true };
        let narrower = low.needs_any.is_empty()
            || (!high.needs_any.is_empty() && high.needs_any.iter().all(|need| low.needs_any.contains(need)));
        let floor = match (&low.floor, &high.floor) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(low), Some(high)) => {
                let within = high.approvers.iter().all(|one| low.approvers.contains(one)) && !high.approvers.is_empty();
                high.quorum >= low.quorum && (low.approvers.is_empty() || within)
            }
        };
        from != PRODUCTION && high.max <= low.max && narrower && floor
    }
}

/// The folders that a path lies in.
fn above(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at])
}

pub(super) fn compile<'p>(
    tree: &Tree<'_>,
    fields: &Fields<'_, '_>,
    profiles: &'p Profiles,
    findings: &mut Findings,
) -> Policy<'p> {
    format(tree, fields, findings);
    let mut policy = Policy::default();
    for entry in fields.named("issuer", findings) {
        match issuer(entry, profiles, &policy, findings) {
            Some((issuer, profile)) => {
                policy.issuers.push(issuer);
                policy.profiles.push(profile);
            }
            None => policy.faulty_issuers.push(entry.name().to_owned()),
        }
    }
    for entry in fields.named("team", findings) {
        if let Some(team) = team(entry, &policy, findings) {
            policy.add_team(team);
        }
    }
    let built_in = |max| Sensitivity { max, needs_any: Vec::new(), floor: None };
    policy.sensitivities.insert(PRODUCTION.into(), built_in(PRODUCTION_MAX_SECONDS));
    policy.sensitivities.insert("internal".into(), built_in(INTERNAL_MAX_SECONDS));
    for entry in fields.named("sensitivity", findings) {
        sensitivity(entry, &mut policy, findings);
    }
    for entry in fields.named("target", findings) {
        target(entry, &mut policy, findings);
    }
    policy
}

fn format(tree: &Tree<'_>, fields: &Fields<'_, '_>, findings: &mut Findings) {
    let Some(entry) = fields.entry("format") else {
        findings.error(
            codes::UNKNOWN_FORMAT,
            tree.source.span(0..0),
            "`policy.toml` does not say the format of the language",
            format!("write `format = {FORMAT}` as its first line"),
        );
        return;
    };
    match entry.value.get_ref() {
        DeValue::Integer(number) if number.as_str() == FORMAT => {}
        DeValue::Integer(number) => findings.error(
            codes::UNKNOWN_FORMAT,
            entry.value_span(),
            format!("format {} of the language is not known to this version", number.as_str()),
            format!("this version reads `format = {FORMAT}`; a newer format needs a newer claimbound"),
        ),
        _ => entry.wrong_type("an integer", findings),
    }
}

fn issuer<'p>(
    entry: Entry<'_, '_>,
    profiles: &'p Profiles,
    policy: &Policy<'_>,
    findings: &mut Findings,
) -> Option<(Issuer, &'p Profile)> {
    let fields = Fields::read(entry.source, Place::Issuer, entry.value, findings)?;
    let name = entry.name();
    names::check("issuer", name, &entry.key_span(), findings);
    if is_match_key(name) {
        findings.error(
            codes::RESERVED_NAME,
            entry.key_span(),
            format!("an issuer cannot be called `{name}`, which is a claim"),
            "choose another name: `[role.x.require.NAME]` could not be told from a condition",
        );
    }
    let profile = fields.need_text("profile", findings).and_then(|(text, span)| {
        let known = profiles.iter().map(|profile| profile.name.as_str());
        names::known(
            codes::UNKNOWN_PROFILE,
            "profile",
            text,
            known,
            &span,
            "claimbound or under `profiles/`",
            findings,
        );
        profiles.get(text)
    });
    let url = fields.need_text("url", findings);
    if let Some((url, span)) = &url
        && let Some(other) = policy.issuers.iter().find(|issuer| issuer.url == *url)
    {
        let finding = Diagnostic::error(
            codes::URL_TAKEN,
            span.clone(),
            format!("`{name}` and `{}` have one URL", other.name),
            "keep one of the two: a token's `iss` must name exactly one issuer",
        );
        findings.push(finding.and(other.span.clone(), "the other issuer"));
    }
    let tenancy = match (&url, profile) {
        (Some((url, span)), Some(profile)) => tenancy(&fields, profile, url, span, findings),
        _ => Tenancy::Multi,
    };
    let tenancy = match &url {
        Some((url, _)) => unless_shared(tenancy, &fields, url, profiles, findings),
        None => tenancy,
    };
    if let Some((profile, audience)) = profile.and_then(|profile| Some((profile, profile.fixed_audience()?))) {
        fixed_audience(&fields, profile, audience, findings);
    }
    let owners = owners(&fields, profile, findings);
    let names_owner = profile.is_some_and(Profile::names_owner);
    if owners.is_empty() && tenancy == Tenancy::Multi && names_owner && fields.lacks("owners", findings) {
        findings.error(
            codes::OWNERS_MISSING,
            fields.span(),
            format!("issuer `{name}` is shared by strangers and has no `owners`"),
            "write the owners whose jobs may be known, with their immutable ids: `owners = { acme = 65 }`; on an instance of your own say `tenancy = \"single\"`",
        );
    }
    let (Some(profile), Some((url, _))) = (profile, url) else { return None };
    let issuer = Issuer {
        name: Arc::from(name),
        profile: profile.name.clone(),
        url: url.to_owned(),
        multi_tenant: tenancy == Tenancy::Multi,
        owners,
        pin: profile.pins().first().copied().filter(|_| !profile.names_owner()),
        pinned: Default::default(),
        folds_names: profile.folds_names(),
        grants_renamed: grants_renamed(&fields, profile, findings),
        trusts_act: trusts_act(&fields, profile, findings),
        span: fields.span(),
    };
    Some((issuer, profile))
}

/// Whether `on_rename` lets names go.
fn grants_renamed(fields: &Fields<'_, '_>, profile: &Profile, findings: &mut Findings) -> bool {
    let Some((said, span)) = fields.text("on_rename", findings) else { return false };
    let paired = profile.provides(Claim::RepositoryId) && profile.provides(Claim::Repository);
    let (message, help) = match said {
        "refuse" => return false,
        "warn" if paired => return true,
        "warn" => (
            format!("tokens of profile `{}` have no repository with name and id, so `on_rename` says nothing", profile.name),
            "remove it: mappings of this issuer pin something else".to_owned(),
        ),
        other => (
            format!("`on_rename` cannot be \"{other}\""),
            "write \"refuse\", which stands where it is left out, or \"warn\": then one repository that is pinned by name and id is granted by its id, and told".to_owned(),
        ),
    };
    findings.error(codes::ON_RENAME, span, message, help);
    false
}

/// Whether `trust_act` lets the issuer's tokens name actors. Where a job's author sets claims, `act` could be one of them.
fn trusts_act(fields: &Fields<'_, '_>, profile: &Profile, findings: &mut Findings) -> bool {
    let trusts = fields.boolean("trust_act", findings).unwrap_or(false);
    if trusts && profile.author_sets_claims() {
        let message = format!("whoever writes a job of profile `{}` sets some of its claims", profile.name);
        let help = "remove `trust_act`: an `act` of such a token could be its author's own word; have the actor present a token of its own";
        let span = fields.entry("trust_act").map_or_else(|| fields.span(), |entry| entry.span());
        findings.error(codes::TRUST_ACT, span, message, help);
        return false;
    }
    trusts
}

/// A URL that some profile knows to be everybody's is so under any profile.
fn unless_shared(
    tenancy: Tenancy,
    fields: &Fields<'_, '_>,
    url: &str,
    profiles: &Profiles,
    findings: &mut Findings,
) -> Tenancy {
    if tenancy == Tenancy::Single && profiles.is_shared(url) {
        let span = fields.entry("tenancy").map_or_else(|| fields.span(), |entry| entry.value_span());
        let help = "remove `tenancy`: jobs of every customer of this service have tokens of it";
        let message = format!("`{url}` is shared by strangers; it cannot be `tenancy = \"single\"`");
        findings.error(codes::TENANCY, span, message, help);
        return Tenancy::Multi;
    }
    tenancy
}

/// Its jobs would be refused one by one, and nobody would know why.
fn fixed_audience(fields: &Fields<'_, '_>, profile: &Profile, audience: &str, findings: &mut Findings) {
    let finding = Diagnostic::error(
        codes::FIXED_AUDIENCE,
        fields.entry("profile").map_or_else(|| fields.span(), |entry| entry.value_span()),
        format!(
            "tokens of profile `{}` are for `{audience}`, which is no broker's URL: all of them are refused",
            profile.name
        ),
        "keep the issuer out until its jobs can choose the audience: a token for others, too, could be replayed by any of them",
    );
    findings.push(finding.warning());
}

/// Plain HTTP to this machine, by address: what a local issuer has.
fn is_loopback(url: &str) -> bool {
    ["http://127.0.0.1", "http://[::1]"]
        .iter()
        .filter_map(|host| url.strip_prefix(host))
        .any(|rest| rest.is_empty() || rest.starts_with([':', '/']))
}

/// Judges the URL against the profile's forms, and `tenancy` against the URL.
fn tenancy(fields: &Fields<'_, '_>, profile: &Profile, url: &str, span: &Span, findings: &mut Findings) -> Tenancy {
    // A development issuer on loopback may play any instance; `serve` refuses it without `--development`.
    let of_url = if is_loopback(url) { Some(Tenancy::Single) } else { profile.tenancy_of(url) };
    let bare = url.trim_end_matches('/');
    if of_url.is_none() {
        let forms = profile.url_forms().iter().map(|form| format!("`{form}`")).collect::<Vec<_>>().join(", ");
        let message = format!("`{url}` is no issuer URL of profile `{}`", profile.name);
        if bare != url && profile.tenancy_of(bare).is_some() {
            let help = "write it without the slash at its end: it is compared with `iss` byte for byte";
            findings.edit(codes::URL_FORM, span.clone(), message, help, format!("\"{bare}\""));
        } else {
            findings.error(
                codes::URL_FORM,
                span.clone(),
                message,
                format!("write the exact `iss` of its tokens: {forms}"),
            );
        }
    } else if bare != url && (is_loopback(url) || profile.tenancy_of(bare).is_some()) {
        let finding = Diagnostic::error(
            codes::URL_SLASH,
            span.clone(),
            "the issuer URL ends in a slash",
            "remove it, unless the tokens' `iss` really ends so: it is compared byte for byte",
        );
        findings.push(finding.warning());
    }
    let Some((said, span)) = fields.text("tenancy", findings) else { return Tenancy::Multi };
    match (said, of_url) {
        ("multi", _) => Tenancy::Multi,
        // A URL that fits no form was told; whether `owners` is due cannot be.
        ("single", Some(Tenancy::Single) | None) => Tenancy::Single,
        ("single", Some(Tenancy::Multi)) => {
            findings.error(
                codes::TENANCY,
                span,
                format!("`{url}` is shared by strangers; it cannot be `tenancy = \"single\"`"),
                "remove `tenancy`, and list in `owners` whose jobs may be known",
            );
            Tenancy::Multi
        }
        _ => {
            let help = "write \"single\" for an instance that is yours alone; otherwise leave `tenancy` out";
            findings.error(codes::TENANCY, span, format!("there is no tenancy `{said}`"), help);
            Tenancy::Multi
        }
    }
}

fn owners(fields: &Fields<'_, '_>, profile: Option<&Profile>, findings: &mut Findings) -> BTreeMap<String, String> {
    let mut owners: BTreeMap<String, String> = BTreeMap::new();
    let Some(entry) = fields.entry("owners") else { return owners };
    if profile.is_some_and(|profile| !profile.provides(Claim::RepositoryOwnerId)) {
        findings.error(
            codes::CLAIM_NOT_PROVIDED,
            entry.span(),
            "tokens of this profile hold no immutable id of an owner, so `owners` would admit nobody",
            "remove `owners`: jobs that no mapping pins are strangers",
        );
        return owners;
    }
    let listed = entry.entries(findings);
    if listed.is_empty() && entry.value.get_ref().is_table() {
        findings.error(
            codes::EMPTY_LIST,
            entry.value_span(),
            "`owners` is empty",
            "list the owners whose jobs may be known, with their immutable ids: `owners = { acme = 65 }`",
        );
    }
    let folds = profile.is_some_and(Profile::folds_names);
    for owner in listed {
        let Some(id) = owner_id(owner, profile, findings) else { continue };
        let name = owner.name();
        let same = |other: &str| other == name || (folds && other.eq_ignore_ascii_case(name));
        if let Some((other, _)) = owners.iter().find(|(other, other_id)| same(other) || **other_id == id) {
            findings.error(
                codes::MEMBER_REPEATED,
                owner.span(),
                format!("owner `{name}` is the same as `{other}`"),
                "keep one line for each owner and each id; after a rename keep the new name",
            );
            continue;
        }
        owners.insert(name.to_owned(), id);
    }
    owners
}

fn owner_id(owner: Entry<'_, '_>, profile: Option<&Profile>, findings: &mut Findings) -> Option<String> {
    let text = match owner.value.get_ref() {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) if number.radix() == 10 => number.as_str().to_owned(),
        _ => {
            owner.wrong_type("an id: an integer, or a text in quotes", findings);
            return None;
        }
    };
    if text.is_empty() && owner.value.get_ref().is_integer() {
        findings.told();
        return None;
    }
    let zeros = text.len() > 1 && text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
    if zeros || profile.is_some_and(|profile| !profile.id_fits(Claim::RepositoryOwnerId, &text)) {
        findings.error(
            codes::BAD_ID,
            owner.value_span(),
            format!("`{text}` is not the id of an owner"),
            "write the owner's immutable id as tokens carry it, without leading zeros; GitHub shows it at `https://api.github.com/users/NAME`",
        );
        return None;
    }
    Some(text)
}

fn team(entry: Entry<'_, '_>, policy: &Policy<'_>, findings: &mut Findings) -> Option<TeamRules> {
    let fields = Fields::read(entry.source, Place::Team, entry.value, findings)?;
    let name = entry.name();
    names::check("team", name, &entry.key_span(), findings);
    let contact = fields.text("contact", findings).map(|(text, _)| text.to_owned());
    let issuers = fields.texts("issuers", findings).map(|listed| {
        listed
            .into_iter()
            .filter(|(issuer, span)| policy.knows_issuer(issuer, span, findings))
            .map(|(issuer, _)| issuer.to_owned())
            .collect()
    });
    let may = may(&fields, findings);
    let approvers = ceremony::approvers(fields.entry("approvers"), findings).unwrap_or_default();
    let (path, span) = fields.need_text("path", findings)?;
    let fits = path.strip_prefix("teams/").is_some_and(|rest| {
        rest.split('/').all(|part| !part.is_empty() && !part.starts_with('.') && !part.contains(['\\', '\0']))
    });
    if !fits {
        findings.error(
            codes::TEAM_PATH,
            span,
            format!("`{path}` is no folder below `teams/`"),
            format!("write `path = \"teams/{name}\"`, without slash at its end: what else the folder holds is the platform's"),
        );
        return None;
    }
    for other in policy.nested(path) {
        let finding = Diagnostic::error(
            codes::TEAM_PATHS_NESTED,
            span.clone(),
            format!("the paths of `{name}` and `{}` lie inside each other", other.team.name),
            "give each team a folder of its own: a file has one owner",
        );
        findings.push(finding.and(other.span.clone(), "the other team"));
    }
    let team = Team { name: name.to_owned(), path: path.to_owned(), contact, may };
    Some(TeamRules { team, issuers, approvers, span: fields.span() })
}

fn sensitivity(entry: Entry<'_, '_>, policy: &mut Policy<'_>, findings: &mut Findings) {
    let name = entry.name();
    names::check("sensitivity", name, &entry.key_span(), findings);
    let Some(fields) = Fields::read(entry.source, Place::Sensitivity, entry.value, findings) else { return };
    let max = duration::read(fields.entry("max_duration"), findings).map(|(max, _)| max);
    let built_in = policy.sensitivities.get(name).map(|built_in| built_in.max);
    if max.is_none() && built_in.is_none() && fields.lacks("max_duration", findings) {
        findings.error(
            codes::SENSITIVITY_MAX,
            fields.span(),
            format!("sensitivity `{name}` has no `max_duration`"),
            "write the longest life of a credential: `max_duration = \"1h\"`; only `internal` (12h) and `production` (1h) have one by themselves",
        );
    }
    let mut needs_any = Vec::new();
    for (need, span) in fields.texts("needs_any", findings).unwrap_or_default() {
        match need {
            "branch" => needs_any.push(Narrow::Branch),
            "tag" => needs_any.push(Narrow::Tag),
            "ceremony" => needs_any.push(Narrow::Ceremony),
            _ => {
                let meant = did_you_mean(need, ["branch", "tag", "ceremony"]);
                let help = meant.map_or("write some of `branch`, `tag` and `ceremony`".into(), |meant| {
                    format!("did you mean `{meant}`?")
                });
                findings.error(codes::BAD_OPERATOR, span, format!("a mapping cannot narrow `{need}`"), help);
            }
        }
    }
    let max = max.or(built_in).unwrap_or(PRODUCTION_MAX_SECONDS);
    let floor = fields.entry("ceremony").and_then(|entry| ceremony::floor(entry, findings));
    policy.sensitivities.insert(name.to_owned(), Sensitivity { max, needs_any, floor });
}

fn target(entry: Entry<'_, '_>, policy: &mut Policy<'_>, findings: &mut Findings) {
    names::check("target", entry.name(), &entry.key_span(), findings);
    let span = entry.key_span();
    let mut target = Target { sensitivity: None, values: BTreeMap::new(), span };
    for value in entry.entries(findings) {
        if value.name() == "sensitivity" {
            if let Some((name, span)) = value.text(findings)
                && policy.knows_sensitivity(name, &span, findings)
            {
                target.sensitivity = Some(name.to_owned());
            }
        } else if let Some(text) = scalar(value.value) {
            target.values.insert(value.name().to_owned(), text);
        } else {
            value.wrong_type("a text", findings);
        }
    }
    policy.targets.insert(entry.name().to_owned(), target);
}

/// A value that can stand inside a text.
fn scalar(value: &Value<'_>) -> Option<String> {
    match value.get_ref() {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str().to_owned()),
        DeValue::Boolean(value) => Some(value.to_string()),
        _ => None,
    }
}
