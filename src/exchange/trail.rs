//! What has been established so far, so that a refusal's record says exactly that much.

use super::{
    Cost, Parts, Refusal, Refused, Request,
    strangers::{Kind, Repository},
    sts::{Place, StsAsk},
};
use crate::{
    store::{Blocked, Change, Commit, Family, Guard, LeaseState, Move, Outcome, Settled, Turn, Use},
    telemetry::{About, Minted},
};
use aws_lc_rs::rand;
use claimbound_core::{
    ceremony::{CeremonyId, Claim as Approval},
    claims,
    evidence::{Details, LeaseId, Party, Record, What, hex},
    mapping::{Exception, Mapping, MappingId, MappingSet, Role, RoleId},
    reason::{Reason, Standing},
    review::recorded::{ACTOR_CLAIMS, DOWNSTREAM, HANDOFF},
    workload::{Claim, Profile, Workload},
};
use serde_json::{Map, Value, json};

/// What details call the keys of what a grant rests on beside its principal.
pub(super) const RESTS_ON: &str = "rests_on";

/// What has been established so far. `?` leaves it as it stands.
pub(super) struct Trail<'r> {
    request: &'r Request<'r>,
    /// Name of the issuer that the token names, if it is one of ours; whether the token verified is another matter.
    pub(super) issuer: Option<&'r str>,
    principal: Option<Repository>,
    /// Who acts, the outermost first.
    actors: Vec<Repository>,
    role: Option<&'r str>,
    mapping: Option<&'r str>,
    /// What believing the case costs; a refusal spends it too.
    spend: Option<Cost>,
    /// The lease that admission opens, as nothing was minted for it: what to make of it if the store gave no answer.
    opening: Option<Settled>,
    /// Where the first answer to this very request is noted.
    pub(super) first: Option<Place>,
    /// A refresh token was sent: the subject token was spent when its family began, and comes again.
    renews: bool,
    /// The turn that admission takes: given back if surely nothing was minted.
    turn: Option<Turn>,
    /// The ceremony that admission consumes: given back if surely nothing was minted.
    redeemed: Option<Move>,
    /// What admission takes of the mapping's limits: given back if surely nothing was minted.
    uses: Vec<Use>,
    /// What a refusal's record must also change.
    owed: Vec<Change>,
    /// Whose rate it counts against, where that is not the principal's.
    rated: Option<(String, String)>,
    /// Claims, addresses and what was asked: erasable, hashed with a salt.
    details: Details,
    /// How minting went, for metrics.
    pub(super) minted: Option<Minted>,
}

impl<'r> Trail<'r> {
    pub(super) fn new(request: &'r Request<'r>) -> Self {
        let mut json = Map::new();
        if let Some(address) = request.address {
            json.insert("address".into(), address.to_string().into());
        }
        let ask = &request.ask;
        let asked = json!({ "role": ask.role, "duration": ask.duration.map(|d| d.0), "scope": ask.scope, "dry_run": request.dry_run });
        json.insert("asked".into(), asked);
        let details = Details::from(json);
        Self {
            request,
            issuer: None,
            principal: None,
            actors: vec![],
            role: None,
            mapping: None,
            spend: None,
            first: None,
            opening: None,
            renews: false,
            turn: None,
            redeemed: None,
            uses: vec![],
            owed: vec![],
            rated: None,
            details,
            minted: None,
        }
    }

    /// The caller is a job that we know: from here on every answer is on record and spends the token, unless
    /// the repository is over its rate.
    pub(super) fn proven(&mut self, profile: &Profile, workload: &Workload<'_>, spend: Cost) {
        let (id, name) = workload.principal_id(profile);
        self.principal = Some(Repository { issuer: workload.issuer.to_string(), id: id.into(), name: name.into() });
        self.details.encode_member("claims", workload.raw());
        self.first = Place::of(self.request, spend);
        self.spend = Some(spend);
    }

    /// What a request in STS's words asks for, and for which role.
    pub(super) fn asks(&mut self, sts: Option<&StsAsk>, role: Option<&str>) {
        let Some(sts) = sts else { return };
        let narrowing = &sts.narrowing;
        let asked = json!({ "role_arn": sts.role_arn, "session_name": sts.session_name, "policy": narrowing.policy, "policy_arns": narrowing.policy_arns });
        self.details.json.insert("sts".into(), asked);
        if let Some(asked) = self.details.json.get_mut("asked") {
            asked["role"] = role.into();
        }
    }

    /// The subject token is of this lease.
    pub(super) fn comes_of(&mut self, parent: LeaseId) {
        self.details.json.insert("parent".into(), parent.to_string().into());
    }

    /// It is a credential of ours: for whom, and who had acted until then.
    pub(super) fn brought(&mut self, audience: &str, act: Option<&claims::Value<'_>>) {
        let act = act.map(claims::Value::to_json);
        self.details.json.insert(DOWNSTREAM.into(), json!({ "audience": audience, "act": act }));
    }

    /// Who acted until then, by the names that evidence knows, the outermost first: whoever brings the actor token now stands
    /// outside of them.
    pub(super) fn acted_before(&mut self, earlier: Vec<Repository>) {
        self.actors.truncate(1);
        self.actors.extend(earlier);
    }

    /// What else than its principal a grant rests on: what comes of its token does, too.
    pub(super) fn rests_on(&mut self, subjects: &[[u8; 32]]) {
        self.details.json.insert(RESTS_ON.into(), subjects.iter().map(|subject| hex(subject)).collect());
    }

    /// A handoff is asked for, for whoever this is.
    pub(super) fn promises(&mut self, (iss, sub): (&str, &str)) {
        self.details.json.insert(HANDOFF.into(), json!({ "iss": iss, "sub": sub }));
    }

    /// Takes one request of this rate in place of the principal's.
    pub(super) fn rated(&mut self, parts: &Parts<'_>, issuer: &str, id: &str) -> Result<(), u32> {
        self.rated = Some((issuer.to_owned(), id.to_owned()));
        parts.repositories.take(issuer, id)
    }

    /// Who brought the actor token.
    pub(super) fn acted_by(&mut self, profile: &Profile, actor: &Workload<'_>) {
        let (id, name) = actor.principal_id(profile);
        self.actors = vec![Repository { issuer: actor.issuer.to_string(), id: id.into(), name: name.into() }];
        self.details.encode_member(ACTOR_CLAIMS, actor.raw());
        self.tell_actors();
    }

    /// The whole chain; of those that a token names, their subjects are all that is known.
    pub(super) fn acted(&mut self, chain: &[Workload<'_>]) {
        for actor in chain.iter().skip(self.actors.len()) {
            let id = actor.text(Claim::Subject).unwrap_or_default();
            self.actors.push(Repository { issuer: actor.issuer.to_string(), id: id.into(), name: id.into() });
        }
        self.tell_actors();
    }

    fn tell_actors(&mut self) {
        if !self.actors.is_empty() {
            let one = |one: &Repository| json!({ "issuer": one.issuer, "id": one.id, "name": one.name });
            self.details.json.insert("actors".into(), self.actors.iter().map(one).collect());
        }
    }

    /// Who acts, the outermost first.
    pub(super) fn actors(&self) -> &[Repository] {
        &self.actors
    }

    /// The subject token comes with a refresh token.
    pub(super) fn renews(&mut self) {
        self.renews = true;
    }

    /// The token was spent when its ceremony began: a refusal costs nothing but its record.
    pub(super) fn comes_again(&mut self) {
        self.renews = true;
        self.spend = self.spend.map(|cost| Cost { subject: None, ..cost }).filter(|cost| cost.actor.is_some());
    }

    /// People claimed it: who, when and why.
    pub(super) fn approved(&mut self, approvals: &[Approval]) {
        if !approvals.is_empty() {
            self.details.json.insert("approvals".into(), json!(approvals));
        }
    }

    /// An open ceremony about the same, under another rule, is withdrawn with this record.
    pub(super) fn withdraws(&mut self, ceremony: Option<CeremonyId>) {
        match ceremony {
            Some(ceremony) => drop(self.details.json.insert("withdrawn".into(), json!(ceremony))),
            None => drop(self.details.json.remove("withdrawn")),
        }
    }

    /// Both belong to this family: a refusal costs nothing but its record.
    pub(super) fn goes_on(&mut self, parts: &Parts<'r>, family: &Family) {
        self.spend = None;
        self.role = known_role(parts, Some(&family.role));
        if let Some(asked) = self.details.json.get_mut("asked") {
            asked["role"] = family.role.as_str().into();
        }
    }

    /// Mappings in the shadow that would grant: on record, and without effect.
    pub(super) fn shadowed(&mut self, set: &MappingSet, found: &[(MappingId, RoleId)]) {
        if !found.is_empty() {
            let one = |(mapping, role): &(MappingId, RoleId)| json!({ "mapping": set.mapping(*mapping).name, "role": set.role(*role).name });
            self.details.json.insert("shadows".into(), found.iter().map(one).collect());
        }
    }

    /// The rules grant. `renamed`: the name that the mapping writes, where the repository has another. Why a mapping rests on
    /// less than others stands in its team's own words, which may name persons.
    pub(super) fn found(&mut self, role: &'r Role, mapping: &'r Mapping, renamed: Option<&str>) {
        if !mapping.exceptions.is_empty() {
            let reason = |one: &Exception| (one.exempt.name().to_owned(), Value::from(&*one.reason));
            let reasons: Map<String, Value> = mapping.exceptions.iter().map(reason).collect();
            self.details.json.insert("exceptions".into(), reasons.into());
        }
        if let Some(written) = renamed {
            self.details.json.insert("renamed".into(), json!({ "written": written, "now": self.principal_name() }));
        }
        self.role = Some(&role.name);
        self.mapping = Some(&mapping.name);
    }

    /// Admission is about to open a lease in this state, and to take these uses and this turn for it.
    pub(super) fn opens(
        &mut self,
        lease: LeaseId,
        from: LeaseState,
        uses: Vec<Use>,
        turn: Option<Turn>,
        redeemed: Option<Move>,
    ) {
        self.redeemed = redeemed;
        self.uses = uses;
        self.turn = turn;
        self.opening = Some(Settled { lease, from, state: LeaseState::Failed, handle: None });
    }

    /// The token is spent, and that is on record.
    pub(super) fn admitted(&mut self) {
        (self.spend, self.opening) = (None, None);
    }

    /// The lease came to this end. If surely nothing was minted, it used up nothing.
    pub(super) fn failed(&mut self, settled: Settled) {
        if settled.state == LeaseState::Failed {
            self.owed.extend(self.uses.drain(..).map(Change::GiveBack));
            self.owed.extend(self.turn.take().map(Change::GiveTurnBack));
            self.owed.extend(self.redeemed.take().map(Change::GiveClaimBack));
        }
        self.owed.push(Change::Settle(settled));
    }

    /// For metrics: names that stand in configuration and folder. Roles that strangers ask for are not among them.
    pub(super) fn about(&mut self, parts: &Parts<'r>, refusal: Option<&Refusal>) -> About {
        let asked = self.principal.as_ref().and_then(|_| known_role(parts, self.request.ask.role));
        let nearest = match refusal {
            Some(Refusal::Decision(denial, _)) => denial.nearest,
            _ => None,
        };
        let nearest = nearest.map(|id| parts.snapshot.mappings.mapping(id).name.as_str());
        About {
            issuer: self.issuer.map(str::to_owned),
            role: self.role.or(asked).map(str::to_owned),
            mapping: self.mapping.or(nearest).map(str::to_owned),
            minted: self.minted.take(),
        }
    }

    pub(super) fn principal_id(&self) -> &str {
        self.principal.as_ref().map_or("", |principal| &principal.id)
    }

    pub(super) fn principal_name(&self) -> &str {
        self.principal.as_ref().map_or("", |principal| &principal.name)
    }

    /// The one write operation, with the record of `what` in it, if there is one.
    pub(super) async fn commit(
        &self,
        parts: &Parts<'_>,
        guards: Vec<Guard>,
        changes: Vec<Change>,
        what: impl Into<Option<What<'_>>>,
    ) -> Result<(), Refusal> {
        let principal = self.principal.as_ref();
        let record = what.into().map(|what| Record {
            decision: Some(self.request.id),
            at: parts.now,
            what,
            principal: principal.map(|p| Party { issuer: &p.issuer, id: &p.id, name: &p.name }),
            actor: self.actors.first().map(|a| Party { issuer: &a.issuer, id: &a.id, name: &a.name }),
            mappings_version: Some(parts.snapshot.mappings.version),
        });
        let entry = record.map(|record| record.seal(&self.details, salt()));
        match parts.writer.commit(Commit { guards, changes, entry }).await? {
            Outcome::Durable { .. } => Ok(()),
            Outcome::Blocked(blocked) => Err(Refusal::Blocked(blocked)),
        }
    }
}

/// 256 random bits for one record's details.
pub(crate) fn salt() -> [u8; 32] {
    let mut salt = [0; 32];
    rand::fill(&mut salt).expect("the system's random source answers");
    salt
}

/// Every refusal ends here. A stranger's is counted and recorded in the background; a proven job's is one durable
/// record, and what believing the job cost is spent with it. Beyond a rate per repository the record is summed, the
/// spending never. Whoever is over the repository's own rate is not judged at all: nothing is spent, and nothing written.
pub(super) async fn record_refusal(parts: &Parts<'_>, trail: Trail<'_>, refusal: Refusal) -> Refused {
    if let Refusal::Opened(_) = refusal {
        return Refused::untold(trail.request, refusal, parts.now);
    }
    let (mut refusal, waits) = refusal.take_waits();
    let said = refusal.take_said();
    let mut refused = record(parts, trail, refusal).await;
    refused.waits = waits.filter(|_| refused.reason == Reason::CeremonyNeeded);
    refused.said = said.filter(|_| refused.reason == Reason::CeremonyRejected);
    refused
}

async fn record(parts: &Parts<'_>, mut trail: Trail<'_>, refusal: Refusal) -> Refused {
    let mut reason = refusal.reason();
    tracing::debug!(decision_id = %trail.request.id, reason = reason.name(), why = %refusal, "refused");
    let role_asked = trail.request.ask.role.is_some();
    let (wait, waiting) = (refusal.retry_after_seconds(parts.now), reason);
    let refused = |reason, standing, hint| {
        let retry_after_seconds = wait.filter(|_| reason == waiting);
        Refused { reason, standing, role_asked, retry_after_seconds, hint, waits: None, said: None, first: None }
    };
    let Some(principal) = &trail.principal else {
        parts.strangers.note(trail.request, trail.issuer, reason, parts);
        return refused(reason, Standing::Stranger, None);
    };
    let repository = principal.clone();
    let sum = |reason| parts.strangers.sum(&repository, reason, parts.now);
    let is_summed = |kind| parts.strangers.is_summed(&repository, kind, parts.now);
    let rated = trail.rated.clone().unwrap_or_else(|| (repository.issuer.clone(), repository.id.clone()));
    let give_back = || parts.repositories.give_back(&rated.0, &rated.1);
    if let Refusal::RateLimited { .. } = refusal {
        sum(reason);
        return refused(reason, Standing::ProvenJob, None);
    }
    let lost = matches!(refusal, Refusal::Blocked(Blocked::Replay | Blocked::InFlight | Blocked::BeforeAdoption));
    if lost {
        give_back();
        if is_summed(Kind::Replay) {
            sum(reason);
            return refused(reason, Standing::ProvenJob, None);
        }
    }

    if let Refusal::Blocked(Blocked::Exhausted { until }) = &refusal {
        trail.details.json.insert("limited_until".into(), until.0.into());
    }
    if let Refusal::Blocked(Blocked::Suspended(by)) = &refusal {
        trail.details.json.insert("suspension".into(), by.to_string().into());
    }
    if let Refusal::Decision(denial, _) = &refusal {
        if let Some(rule) = &denial.rule {
            trail.details.json.insert("deny".into(), Value::from(rule.as_str()));
        }
        trail.mapping = denial.nearest.map(|id| parts.snapshot.mappings.mapping(id).name.as_str());
    }
    if let Refusal::Backend(error) = &refusal {
        // The target's own words: for operators alone.
        trail.details.json.insert("backend".into(), Value::from(error.to_string()));
        tracing::warn!(decision_id = %trail.request.id, %error, "nothing could be issued");
    }
    let unanswered = matches!(refusal, Refusal::Store(_));
    let reused = match refusal {
        Refusal::Turn { blocked: Blocked::Reused, family } => Some(family),
        _ => None,
    };
    if let Some(family) = reused {
        // Somebody holds a copy of a refresh token and of the job's own token.
        tracing::warn!(decision_id = %trail.request.id, %family, "a refresh token came again: its family and their leases are ended");
        trail.owed.push(Change::EndFamily(family));
    }
    // Admission may have been written for all that; nothing else would be in the way of this refusal's record.
    if unanswered
        && trail.spend.is_none()
        && let Some(opening) = trail.opening.take()
    {
        trail.failed(opening);
    }
    let (mut owed, spend) = (std::mem::take(&mut trail.owed), trail.spend.take());
    let mut hint = refusal.into_hint();
    // The race for the token was lost already: nothing is left to spend, and the record stands alone.
    let spend = spend.filter(|_| !lost);
    // A renewal may have nothing to spend, and comes again as often as it likes.
    let spends = spend.is_some() || trail.renews;
    let silent = spends && owed.is_empty() && !unanswered && is_summed(Kind::Denial);
    if silent && spend.is_none() {
        sum(reason);
        return refused(reason, Standing::ProvenJob, hint);
    }
    // Not of a token that had an answer before.
    if let Some(first) = trail.first.filter(|_| !lost) {
        owed.push(first.refused(trail.request.id, reason, role_asked, hint.as_deref()));
    }
    let guards = spend.into_iter().flat_map(Cost::guards).collect();
    let (role, mut mapping) = (trail.role.or_else(|| known_role(parts, trail.request.ask.role)), trail.mapping);
    let record = match reused {
        Some(family) => What::Reused { family, reason, role },
        None => What::Refused { reason, role, mapping },
    };
    let record = (!silent).then_some(record);
    match trail.commit(parts, guards, owed, record).await {
        Ok(()) => {
            if silent {
                sum(reason);
            }
            return refused(reason, Standing::ProvenJob, hint);
        }
        // Whether that was written is unknown; a second record of one answer would be a lie.
        Err(Refusal::Store(_)) => return refused(Reason::StoreDown, Standing::ProvenJob, None),
        // The lease was settled by the sweeper, or never opened, or the family was ended already: the answer is as it was,
        // and its record stands alone.
        Err(Refusal::Blocked(Blocked::LeaseEnded | Blocked::FamilyEnded)) => {}
        // It was spent when its family began, and is not good for anything else: no race was lost.
        Err(Refusal::Blocked(Blocked::Replay | Blocked::BeforeAdoption)) if trail.renews => {
            if silent {
                sum(reason);
                return refused(reason, Standing::ProvenJob, hint);
            }
        }
        // The token is spent. If the store left admission without an answer, it may have been by admission itself, which
        // by now is durable or never will be.
        Err(worse) => {
            if unanswered {
                if let Some(opening) = trail.opening.take() {
                    trail.failed(opening);
                }
                let took_back = std::mem::take(&mut trail.owed);
                match trail.commit(parts, vec![], took_back, What::Refused { reason, role, mapping }).await {
                    Err(Refusal::Blocked(_)) => {}
                    _ => return refused(reason, Standing::ProvenJob, None),
                }
            }
            (reason, hint, mapping) = (worse.reason(), None, None);
            give_back();
            if is_summed(Kind::Replay) {
                sum(reason);
                return refused(reason, Standing::ProvenJob, None);
            }
        }
    }
    if trail.commit(parts, vec![], vec![], What::Refused { reason, role, mapping }).await.is_err() {
        (reason, hint) = (Reason::StoreDown, None);
    }
    refused(reason, Standing::ProvenJob, hint)
}

/// A record names a role only if there is one of that name: what else a caller asked for stands in the details.
fn known_role<'r>(parts: &Parts<'r>, asked: Option<&str>) -> Option<&'r str> {
    let mappings = &parts.snapshot.mappings;
    asked.and_then(|name| mappings.role_named(name)).map(|id| mappings.role(id).name.as_str())
}

#[cfg(test)]
mod tests;
