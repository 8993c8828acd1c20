//! A store that gives no answer: nothing is issued, and the records do not claim that it was.

use super::*;
use crate::{
    exchange::{Proof, Snapshot, Strangers},
    keys::issuers::{IssuerDown, Issuers},
    net::Later,
    store::{
        Kept, Lease,
        tests::{NOW, lease, spend, stalled},
    },
};
use LeaseState::{Failed, Issued, Issuing, Unknown};
use claimbound_core::{
    evidence::{Body, DecisionId},
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
    writer: crate::store::Writer,
    stall: Option<mpsc::Sender<()>>,
}

impl House {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (writer, stall) = stalled(&folder.path().join("store.db"));
        let snapshot =
            Snapshot { mappings: MappingSet::default(), minters: vec![], profiles: Profiles::builtin().clone() };
        Self { folder, snapshot, strangers: Strangers::default(), writer, stall: Some(stall) }
    }

    fn parts(&self) -> Parts<'_> {
        let (snapshot, writer, strangers) = (&self.snapshot, &self.writer, &self.strangers);
        Parts { snapshot, issuers: &NoIssuers, writer, strangers, now: NOW }
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
            }
            true
        };
        reader.snapshot(&mut each).unwrap();
        (records, states)
    }
}

fn request(id: u128) -> Request<'static> {
    Request {
        id: DecisionId(id),
        proof: Proof::Poll { auth_req_id: "" },
        ask: Ask { role: None, duration: None, scope: None },
        dry_run: false,
        digest: [1; 32],
        address: None,
    }
}

/// The trail of a job that came with token 1.
fn proven<'r>(request: &'r Request<'r>) -> Trail<'r> {
    let mut trail = Trail::new(request);
    trail.principal = Some(Principal { issuer: "github".into(), id: "42".into(), name: "acme/payments".into() });
    trail.spend = Some(spend(1, Issued));
    trail
}

async fn admit(parts: &Parts<'_>, trail: &mut Trail<'_>, state: LeaseState) -> Result<(), Refusal> {
    let opened: Lease = lease(trail.request.id.0, 1, state);
    let (mapping, role) = (opened.mapping.clone(), opened.role.clone());
    let granted =
        What::Granted { mapping: &mapping, role: &role, lease: opened.id, handle: None, expires: opened.expires };
    trail.opens(opened.id, state);
    let guards = vec![Guard::Unspent(spend(1, state))];
    trail.commit(parts, guards, vec![Change::OpenLease(opened)], granted).await?;
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
        trail.owes(Change::Settle(Settled { lease, from: state, state: Failed, handle: None }));
        let refused = record_refusal(&parts, trail, Refusal::Grant(Reason::BackendRefused)).await;
        assert_eq!(refused.reason, Reason::BackendRefused);
        let (records, states) = house.found();
        assert_eq!(records.last().unwrap(), "refused backend_refused");
        assert_eq!(states, [if settled_before { Unknown } else { Failed }]);
    }
}
