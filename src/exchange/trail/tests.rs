//! A store that gives no answer: nothing is issued, and the records do not claim that it was.

use super::*;
use crate::{
    exchange::{Polls, Proof, Repositories, Snapshot, Strangers},
    issuance::own::OwnTokens,
    keys::{
        issuers::{IssuerDown, Issuers},
        signing::Signer,
    },
    net::Later,
    store::{
        Kept, Lease,
        tests::{self as stored, NOW, lease, spend, stalled},
    },
};
use LeaseState::{Failed, Issued, Issuing, Unknown};
use claimbound_core::{
    evidence::{Body, DecisionId, Eased},
    mapping::{Ask, MappingSet},
    trust::IssuerTable,
    workload::Profiles,
};
use std::sync::{Arc, mpsc};

struct NoIssuers;

impl Issuers for NoIssuers {
    fn table(&self) -> Arc<IssuerTable> {
        unreachable!()
    }
    fn refresh<'a>(&'a self, _: &'a str) -> Later<'a, Result<Arc<IssuerTable>, IssuerDown>> {
        unreachable!()
    }
}

struct House {
    folder: tempfile::TempDir,
    snapshot: Snapshot,
    strangers: Strangers,
    repositories: Repositories,
    own: OwnTokens,
    writer: crate::store::Writer,
    reader: Arc<dyn crate::store::Reader>,
    stall: Option<mpsc::Sender<()>>,
}

impl House {
    fn new() -> Self {
        Self::after(&[])
    }

    /// With what was written before.
    fn after(commits: &[Commit]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        stored::written(&path, commits);
        let (writer, stall) = stalled(&path);
        let reader = crate::store::open_reader(&format!("sqlite:{}", path.display())).unwrap();
        let snapshot =
            Snapshot { mappings: MappingSet::default(), minters: vec![], profiles: Profiles::builtin().clone() };
        Self {
            folder,
            snapshot,
            strangers: Strangers::default(),
            own: OwnTokens::new("https://cb.example", "https://cb.example", &Signer::ephemeral(), false),
            repositories: Repositories::new(0),
            writer,
            reader,
            stall: Some(stall),
        }
    }

    fn parts(&self) -> Parts<'_> {
        let (snapshot, writer, reader) = (&self.snapshot, &self.writer, &self.reader);
        let (strangers, repositories) = (&self.strangers, &self.repositories);
        let polls = &POLLS;
        Parts {
            snapshot,
            issuers: &NoIssuers,
            own: &self.own,
            writer,
            reader,
            strangers,
            repositories,
            polls,
            now: NOW,
        }
    }

    /// Kinds and reasons of all records, states of all leases; the audit holds.
    fn found(&self) -> (Vec<String>, Vec<LeaseState>) {
        let reader = crate::store::open_reader(&format!("sqlite:{}/store.db", self.folder.path().display())).unwrap();
        assert!(crate::store::audit(reader.as_ref(), None).unwrap().finding.is_none());
        let (mut records, mut states) = (vec![], vec![]);
        let mut each = |kept| {
            match kept {
                Kept::Record(stored) => {
                    let body: Body<'_> = serde_json::from_slice(&stored.body).unwrap();
                    let reason = body.reason.unwrap_or_default();
                    records.push(format!("{} {reason}", body.kind).trim_end().to_owned());
                }
                Kept::Lease(lease) => states.push(lease.state),
                _ => {}
            }
            true
        };
        reader.snapshot(&mut each).unwrap();
        (records, states)
    }
}

static POLLS: std::sync::LazyLock<Polls> = std::sync::LazyLock::new(Polls::default);

fn request(id: u128) -> Request<'static> {
    Request {
        sts: None,
        id: DecisionId(id),
        proof: Proof::Poll { auth_req_id: "", subject: None, actor: None },
        ask: Ask { role: None, duration: None, scope: None },
        dry_run: false,
        digest: [1; 32],
        address: None,
    }
}

/// The trail of a job that came with token 1.
fn proven<'r>(request: &'r Request<'r>) -> Trail<'r> {
    let mut trail = Trail::new(request);
    trail.principal = Some(Repository { issuer: "github".into(), id: "42".into(), name: "acme/payments".into() });
    trail.spend = Some(Cost { subject: Some(spend(1, Issued)), actor: None });
    trail
}

async fn admit(parts: &Parts<'_>, trail: &mut Trail<'_>, state: LeaseState) -> Result<(), Refusal> {
    let opened: Lease = lease(trail.request.id.0, 1, state);
    let (mapping, role) = (opened.mapping.clone(), opened.role.clone());
    let granted = What::Granted {
        mapping: &mapping,
        role: &role,
        lease: opened.id,
        parent: None,
        how: None,
        handle: None,
        expires: opened.expires,
        family: None,
        ceremony: None,
        eased: Eased::default(),
    };
    trail.opens(opened.id, state, vec![], None, None);
    let guards = vec![Guard::Unspent(spend(1, state))];
    trail.commit(parts, guards, vec![Change::OpenLease(Box::new(opened))], granted).await?;
    trail.admitted();
    Ok(())
}

#[tokio::test]
async fn a_grant_that_became_durable_too_late_is_taken_back() {
    for state in [Issued, Issuing] {
        let mut house = House::new();
        let request = request(7);
        let mut trail = proven(&request);
        let down = admit(&house.parts(), &mut trail, state).await.unwrap_err();
        assert!(matches!(down, Refusal::Store(_)), "{down}");
        assert_eq!(house.found().1, [state], "durable, and nobody was told");
        drop(house.stall.take());
        let refused = record_refusal(&house.parts(), trail, down).await;
        assert_eq!(refused.reason, Reason::StoreDown);
        assert_eq!(house.found(), (vec!["granted".into(), "refused store_down".into()], vec![Failed]));
    }
}

#[tokio::test]
async fn a_grant_that_waited_in_vain_is_not_written_and_a_rival_stays_the_winner() {
    let mut house = House::new();
    let (rivals, ours) = (request(6), request(7));
    let (mut rival, mut trail) = (proven(&rivals), proven(&ours));
    let parts = house.parts();
    let (rivals_down, down) = tokio::join!(admit(&parts, &mut rival, Issued), admit(&parts, &mut trail, Issued));
    rivals_down.unwrap_err();
    drop(house.stall.take());
    let refused = record_refusal(&house.parts(), trail, down.unwrap_err()).await;
    assert_eq!(refused.reason, Reason::Replay, "its own lease was never opened");
    assert_eq!(house.found(), (vec!["granted".into(), "refused replay".into()], vec![Issued]));
}

#[tokio::test]
async fn a_dry_run_without_an_answer_is_no_replay() {
    let mut house = House::new();
    let request = request(7);
    let trail = proven(&request);
    let would = What::DryRun { mapping: "payments/deploy", role: "deploy" };
    let down = trail.commit(&house.parts(), vec![Guard::Unspent(spend(1, Issued))], vec![], would).await.unwrap_err();
    drop(house.stall.take());
    let refused = record_refusal(&house.parts(), trail, down).await;
    assert_eq!(refused.reason, Reason::StoreDown);
    assert_eq!(house.found().0, ["dry_run", "refused store_down"]);
}

#[tokio::test]
async fn a_refusal_without_an_answer_is_not_recorded_twice() {
    let house = House::new();
    let request = request(7);
    let refused = record_refusal(&house.parts(), proven(&request), Refusal::Grant(Reason::NoMapping)).await;
    assert_eq!(refused.reason, Reason::StoreDown);
    assert_eq!(house.found().0, ["refused no_mapping"]);
}

#[tokio::test]
async fn a_failed_mint_settles_its_lease_and_a_late_one_keeps_its_reason() {
    for (state, settled_before) in [(Issuing, false), (Issued, false), (Issuing, true)] {
        let mut house = House::new();
        drop(house.stall.take());
        let parts = house.parts();
        let request = request(7);
        let mut trail = proven(&request);
        admit(&parts, &mut trail, state).await.unwrap();
        let lease = LeaseId(7);
        if settled_before {
            let settled = Settled { lease, from: Issuing, state: Unknown, handle: None };
            let told = What::Settled { lease, state: "unknown", handle: None };
            trail.commit(&parts, vec![], vec![Change::Settle(settled)], told).await.unwrap();
        }
        trail.failed(Settled { lease, from: state, state: Failed, handle: None });
        let refused = record_refusal(&parts, trail, Refusal::Grant(Reason::BackendRefused)).await;
        assert_eq!(refused.reason, Reason::BackendRefused);
        let (records, states) = house.found();
        assert_eq!(records.last().unwrap(), "refused backend_refused");
        assert_eq!(states, [if settled_before { Unknown } else { Failed }]);
    }
}

fn refused_with(reason: Reason) -> Refusal {
    Refusal::Grant(reason)
}

/// A request of its own token.
fn proven_by<'r>(request: &'r Request<'r>, token: u8) -> Trail<'r> {
    Trail { spend: Some(Cost { subject: Some(spend(token, Issued)), actor: None }), ..proven(request) }
}

#[tokio::test]
async fn denials_beyond_the_rate_are_summed_and_still_spend_their_tokens() {
    let mut house = House::new();
    drop(house.stall.take());
    let parts = house.parts();
    let singles = u8::try_from(crate::exchange::strangers::JOBS_SINGLES_PER_MINUTE).unwrap();
    let (request, more) = (request(7), 9);
    for token in 0..singles + more {
        let refused = record_refusal(&parts, proven_by(&request, token), refused_with(Reason::NoMapping)).await;
        assert_eq!((refused.reason, refused.standing), (Reason::NoMapping, Standing::ProvenJob));
    }
    assert_eq!(house.found().0.len(), usize::from(singles));
    // None of them is good for anything any more.
    for token in [0, singles, singles + more - 1] {
        let guards = vec![Guard::Unspent(spend(token, Issued))];
        let would = What::DryRun { mapping: "m", role: "r" };
        let again = proven_by(&request, token).commit(&parts, guards, vec![], would).await.unwrap_err();
        assert!(matches!(again, Refusal::Blocked(Blocked::Replay)), "{token}: {again}");
        let refused = record_refusal(&parts, proven_by(&request, token), refused_with(Reason::NoMapping)).await;
        assert_eq!(refused.reason, Reason::Replay, "told as what it is");
    }
    house.strangers.flush(&house.writer, NOW, true).await;
    let records = house.found().0;
    assert_eq!(
        records[usize::from(singles)..],
        ["refused replay"; 3].map(String::from).into_iter().chain(["summed no_mapping".to_owned()]).collect::<Vec<_>>()
    );
    assert_eq!(house.strangers.summed(), (0, u64::from(more)));
}

#[tokio::test]
async fn a_denial_whose_spending_the_store_does_not_answer_is_no_denial() {
    let house = House::new();
    let request = request(7);
    let repository = proven(&request).principal.unwrap();
    while !house.strangers.is_summed(&repository, Kind::Denial, NOW) {}
    let refused = record_refusal(&house.parts(), proven(&request), refused_with(Reason::NoMapping)).await;
    assert_eq!(refused.reason, Reason::StoreDown);
    assert_eq!(house.strangers.summed(), (0, 0));
}

#[tokio::test]
async fn over_the_repository_s_rate_nothing_is_spent_or_written() {
    let mut house = House::new();
    drop(house.stall.take());
    let parts = house.parts();
    let request = request(7);
    let refusal = Refusal::RateLimited { retry_after_seconds: 3 };
    let refused = record_refusal(&parts, proven(&request), refusal).await;
    assert_eq!((refused.reason, refused.retry_after_seconds), (Reason::RateLimited, Some(3)));
    assert_eq!(house.found().0, Vec::<String>::new());
    admit(&parts, &mut proven(&request), Issued).await.unwrap();
    house.strangers.flush(&house.writer, NOW, true).await;
    assert_eq!(house.found().0, ["granted", "summed rate_limited"]);
}

#[tokio::test]
async fn a_use_counts_unless_surely_nothing_was_minted() {
    for (outcome, goes) in [(Failed, true), (Unknown, false)] {
        let mut house = House::new();
        drop(house.stall.take());
        let parts = house.parts();
        let once = Use { counter: [3; 32], most: 1, at: NOW, seconds: 60 };
        let (first, second) = (request(7), request(8));
        let admit = async |trail: &mut Trail<'_>, token| {
            let opened = lease(trail.request.id.0, token, Issuing);
            let granted = What::Granted {
                mapping: &opened.mapping,
                role: &opened.role,
                lease: opened.id,
                parent: None,
                how: None,
                handle: None,
                expires: opened.expires,
                family: None,
                ceremony: None,
                eased: Eased::default(),
            };
            trail.opens(opened.id, Issuing, vec![once], None, None);
            let guards = vec![Guard::Unspent(spend(token, Issuing)), Guard::Within(once)];
            trail.commit(&parts, guards, vec![Change::OpenLease(Box::new(opened.clone()))], granted).await
        };
        let mut trail = proven_by(&first, 1);
        admit(&mut trail, 1).await.unwrap();
        trail.admitted();
        trail.failed(Settled { lease: LeaseId(7), from: Issuing, state: outcome, handle: None });
        record_refusal(&parts, trail, refused_with(Reason::BackendDown)).await;

        let mut trail = proven_by(&second, 2);
        let again = admit(&mut trail, 2).await;
        assert_eq!(again.is_ok(), goes, "{outcome:?}");
        let Err(refusal) = again else { continue };
        let refused = record_refusal(&parts, trail, refusal).await;
        assert_eq!((refused.reason, refused.retry_after_seconds), (Reason::MappingLimit, Some(60)));
        assert_eq!(house.found().0, ["granted", "refused backend_down", "refused mapping_limit"]);
        let refused = record_refusal(&parts, proven_by(&second, 2), refused_with(Reason::NoMapping)).await;
        assert_eq!((refused.reason, refused.retry_after_seconds), (Reason::Replay, None), "its first answer spent it");
    }
}

/// A grant that the store left unanswered and that is taken back used up nothing.
#[tokio::test]
async fn what_is_taken_back_gives_its_uses_back() {
    let mut house = House::new();
    let request = request(7);
    let mut trail = proven(&request);
    let parts = house.parts();
    let once = Use { counter: [3; 32], most: 1, at: NOW, seconds: 60 };
    let opened = lease(7, 1, Issued);
    let granted = What::Granted {
        mapping: &opened.mapping,
        role: &opened.role,
        lease: opened.id,
        parent: None,
        how: None,
        handle: None,
        expires: opened.expires,
        family: None,
        ceremony: None,
        eased: Eased::default(),
    };
    trail.opens(opened.id, Issued, vec![once], None, None);
    let guards = vec![Guard::Unspent(spend(1, Issued)), Guard::Within(once)];
    let down =
        trail.commit(&parts, guards, vec![Change::OpenLease(Box::new(opened.clone()))], granted).await.unwrap_err();
    drop(house.stall.take());
    let parts = house.parts();
    assert_eq!(record_refusal(&parts, trail, down).await.reason, Reason::StoreDown);
    let would = What::DryRun { mapping: "m", role: "r" };
    proven(&request).commit(&parts, vec![Guard::Within(once)], vec![], would).await.expect("there is room again");
}

/// The trail of a job that came with a refresh token.
fn renewing<'r>(request: &'r Request<'r>) -> Trail<'r> {
    let mut trail = proven(request);
    trail.renews();
    trail.spend = None;
    trail
}

/// Token 1 began family 1; its first refresh token is about to open lease 7.
async fn renew(parts: &Parts<'_>, trail: &mut Trail<'_>, turn: Turn) -> Result<(), Refusal> {
    let commit = stored::renew(7, 1, (1, 2), 10);
    trail.opens(LeaseId(7), Issuing, vec![], Some(turn), None);
    match parts.writer.commit(commit).await? {
        Outcome::Durable { .. } => Ok(()),
        Outcome::Blocked(blocked) => Err(Refusal::Turn { blocked, family: turn.family }),
    }
}

/// Whether admission was written or never will be: the next try has the turn, and no hurry.
#[tokio::test]
async fn a_renewal_without_an_answer_is_had_again() {
    for written in [true, false] {
        let before = [stored::begin(1, 1)];
        let mut house = House::after(&before);
        let (request, turn) = (request(7), stored::turn(1, (1, 2), 10));
        if !written {
            // Whoever is before it in the queue keeps it from being taken up.
            house.writer.commit(stored::begin(2, 2)).await.unwrap_err();
        }
        let mut trail = renewing(&request);
        let down = renew(&house.parts(), &mut trail, turn).await.unwrap_err();
        drop(house.stall.take());
        assert_eq!(record_refusal(&house.parts(), trail, down).await.reason, Reason::StoreDown);
        let (records, states) = house.found();
        assert_eq!(records.last().unwrap(), "refused store_down");
        assert_eq!(states.contains(&Failed), written, "{states:?}");
        let family = house.reader.family(&[101; 32]).unwrap().unwrap();
        assert_eq!(family.turns.current, turn.token, "its turn comes again");
    }
}

#[tokio::test]
async fn a_refresh_token_that_comes_again_ends_its_family_once() {
    let mut house =
        House::after(&[stored::begin(1, 1), stored::renew(5, 1, (1, 2), 0), stored::renew(6, 1, (2, 3), 5)]);
    drop(house.stall.take());
    let (request, turn) = (request(7), stored::turn(1, (1, 2), 10));
    for _ in 0..2 {
        let mut trail = renewing(&request);
        let refusal = renew(&house.parts(), &mut trail, turn).await.unwrap_err();
        let again = matches!(refusal, Refusal::Turn { blocked: Blocked::FamilyEnded, .. });
        let refused = record_refusal(&house.parts(), trail, refusal).await;
        assert_eq!(refused.reason, if again { Reason::RefreshEnded } else { Reason::RefreshReused });
        assert_eq!(refused.standing, Standing::ProvenJob);
    }
    // Found out before admission, by two at once: one ends it, both are told.
    let refusal = Refusal::Turn { blocked: Blocked::Reused, family: LeaseId(1) };
    assert_eq!(record_refusal(&house.parts(), renewing(&request), refusal).await.reason, Reason::RefreshReused);
    let (records, states) = house.found();
    let refused = ["refused refresh_reused", "refused refresh_ended", "refused refresh_reused"];
    assert_eq!(records[3..], refused);
    assert_eq!(states, [LeaseState::Ended; 3]);
}

/// Whoever comes with a refresh token that is nobody's has its first answer, and its token is spent; who comes with one
/// that began a family is told the same, and no replay.
#[tokio::test]
async fn a_token_beside_an_unknown_refresh_token_is_spent() {
    let mut house = House::new();
    drop(house.stall.take());
    let (request, parts) = (request(7), house.parts());
    for _ in 0..2 {
        let mut trail = proven(&request);
        trail.renews();
        let refused = record_refusal(&parts, trail, Refusal::Grant(Reason::GrantUnknown)).await;
        assert_eq!(refused.reason, Reason::GrantUnknown);
    }
    let lost = admit(&parts, &mut proven(&request), Issued).await.unwrap_err();
    assert!(matches!(lost, Refusal::Blocked(Blocked::Replay)), "{lost}");
    assert_eq!(house.found().0, ["refused grant_unknown"; 2]);
}

/// The same refresh token may be sent in a loop: that writes no more than any other.
#[tokio::test]
async fn refusals_of_renewals_are_summed_beyond_the_rate() {
    let mut house = House::new();
    drop(house.stall.take());
    let (request, parts) = (request(7), house.parts());
    let singles = crate::exchange::strangers::JOBS_SINGLES_PER_MINUTE as usize;
    for _ in 0..singles + 5 {
        let refused = record_refusal(&parts, renewing(&request), refused_with(Reason::RefreshEnded)).await;
        assert_eq!((refused.reason, refused.standing), (Reason::RefreshEnded, Standing::ProvenJob));
    }
    for _ in 0..2 {
        let mut trail = proven(&request);
        trail.renews();
        assert_eq!(
            record_refusal(&parts, trail, refused_with(Reason::GrantUnknown)).await.reason,
            Reason::GrantUnknown
        );
    }
    assert_eq!(house.found().0.len(), singles);
    house.strangers.flush(&house.writer, NOW, true).await;
    assert_eq!(house.strangers.summed(), (0, 7));
    let lost = admit(&parts, &mut proven(&request), Issued).await.unwrap_err();
    assert!(matches!(lost, Refusal::Blocked(Blocked::Replay)), "the first of them spent it: {lost}");
}
