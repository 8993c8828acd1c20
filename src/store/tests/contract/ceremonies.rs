//! Claim ceremonies: one move of each version, one open about each key, and claims that stand until they do not.

use super::*;
use crate::store::{
    Move,
    ceremony::{KEPT_SECONDS, OPEN_OF_REPOSITORY_MAX, WAITING_MAX},
};
use claimbound_core::ceremony::{Approvers, CeremonyId, Shown, ShownParty, Starter, State, Terms};
use std::collections::BTreeSet;

fn shown() -> Shown {
    Shown {
        role: "deploy".into(),
        description: "Deploys".into(),
        sensitivity: "production".into(),
        target: None,
        mapping: "payments".into(),
        team: "payments".into(),
        contact: None,
        duration: 900,
        scope: None,
        principal: ShownParty { issuer: "github".into(), id: "42".into(), name: "acme/payments".into() },
        actors: vec![],
        claims: vec![("branch".into(), "main".into())],
        remembered: vec![],
        valid_for: None,
        any_job_of_run: false,
        mappings_version: "00".into(),
    }
}

fn ceremony(number: u128, about: u8, of: u8) -> Ceremony {
    let approvers = Approvers { any: vec!["okta:group:leads".parse().unwrap()], within: vec![] };
    let terms = Terms { standing: false, approvers, quorum: 1, allow_self: false, expires: NOW.plus(600) };
    Ceremony {
        id: CeremonyId(number),
        key: [about; 32],
        rule: [1; 32],
        repository: [of; 32],
        bound: Bound { terms, shown: shown(), subjects: vec![], opener: None },
        opened: NOW,
        void: false,
        state: State::opened(),
        version: 0,
    }
}

fn job(number: u8, of: u128) -> Waiting {
    Waiting {
        request: [number; 32],
        ceremony: CeremonyId(of),
        code: [2; 32],
        job: [3; 32],
        token: [4; 32],
        starter: Starter { issuer: "github".into(), id: Some("7".into()), proves_nobody: false },
        asked: Asked { role: Some("deploy".into()), duration: None, scope: None },
        joined: NOW,
        withdrawn: false,
    }
}

fn commit(guards: Vec<Guard>, changes: Vec<Change>) -> Commit {
    let what = What::Refused { reason: Reason::NoMapping, role: None, mapping: None };
    Commit { guards, changes, entry: Some(entry(1, what)) }
}

fn opening(number: u128, about: u8, of: u8) -> Commit {
    let wait = Change::Wait(Box::new(job(number as u8, number)));
    commit(vec![], vec![Change::OpenCeremony(Box::new(ceremony(number, about, of))), wait])
}

fn claimed() -> State {
    State::Claimed { claims: vec![], redeemed: 0 }
}

fn one_of(place: &dyn Place, number: u128) -> KeptCeremony {
    place.reader().ceremonies(WhichCeremonies::One(CeremonyId(number)), 1).unwrap().remove(0)
}

pub(in crate::store::tests) fn a_ceremony_moves_once_from_each_version(place: &dyn Place) {
    let (mut engine, mut chain) = place.engine().unwrap();
    let (moved, crowded) = (Outcome::Blocked(Blocked::Moved), Outcome::Blocked(Blocked::Crowded));
    let opened = engine.apply(&[opening(1, 1, 1), opening(2, 1, 1), opening(3, 2, 1)], &mut chain).unwrap();
    assert_eq!(opened, [durable(1), moved.clone(), durable(2)], "one about each key");
    let found = one_of(place, 1);
    assert_eq!((found.ceremony.version, &found.jobs[..]), (1, &[job(1, 1)][..]));
    assert_eq!(found.ceremony.bound, ceremony(1, 1, 1).bound);
    // One of a hundred who saw the same.
    let to_claimed = found.ceremony.to(claimed());
    let to_rejected = found.ceremony.to(State::Rejected { by: None, reason: None });
    let batch: Vec<Commit> = (0..100)
        .map(|number| {
            let to = if number % 2 == 0 { &to_claimed } else { &to_rejected };
            commit(vec![Guard::Ceremony(to.clone())], vec![])
        })
        .collect();
    let outcomes = engine.apply(&batch, &mut chain).unwrap();
    assert_eq!(outcomes[0], durable(3));
    assert!(outcomes[1..].iter().all(|outcome| *outcome == moved));
    let mut go = |commit| one(engine.as_mut(), &mut chain, commit);
    // A job that joins makes it another one.
    assert_eq!(go(commit(vec![], vec![Change::Wait(Box::new(job(9, 1)))])), durable(4));
    let consumed = State::Consumed { claims: vec![], redeemed: 0 };
    assert_eq!(go(commit(vec![Guard::Ceremony(to_claimed.then(consumed.clone(), false))], vec![])), moved);
    let now = one_of(place, 1);
    assert_eq!((now.jobs.len(), &now.ceremony.state), (2, &claimed()));
    let consume = now.ceremony.to(consumed);
    assert_eq!(go(commit(vec![Guard::Ceremony(consume.clone())], vec![])), durable(5));
    assert_eq!(go(commit(vec![], vec![Change::Wait(Box::new(job(10, 1)))])), moved, "it is over");
    let back = consume.then(State::Claimed { claims: vec![], redeemed: 1 }, true);
    for sequence in [6, 7] {
        assert_eq!(go(commit(vec![], vec![Change::GiveClaimBack(back.clone())])), durable(sequence));
        assert_eq!(one_of(place, 1).ceremony.state, back.next, "once");
    }
    // Whoever is blocked leaves nothing.
    let mut late = opening(7, 7, 7);
    late.changes.push(Change::Leave([77; 32]));
    assert_eq!(go(late), moved);
    assert!(place.reader().ceremonies(WhichCeremonies::Of([7; 32]), 1).unwrap().is_empty());
    assert_eq!(go(commit(vec![], vec![Change::Leave([9; 32])])), durable(8));
    assert_eq!(go(commit(vec![], vec![Change::Leave([9; 32])])), moved);
    assert_eq!(place.reader().ceremonies(WhichCeremonies::Of([9; 32]), 1).unwrap()[0].jobs.len(), 2);
    // As many as one looks through, and no more.
    let many = |from: u8, to: u8| (from..to).map(|n| opening(u128::from(n), n, 1)).collect::<Vec<_>>();
    let most = 20 + u8::try_from(OPEN_OF_REPOSITORY_MAX).unwrap() - 2;
    assert!(engine.apply(&many(20, most), &mut chain).unwrap().iter().all(|o| matches!(o, Outcome::Durable { .. })));
    assert_eq!(one(engine.as_mut(), &mut chain, opening(200, 200, 1)), crowded);
    assert!(matches!(one(engine.as_mut(), &mut chain, opening(201, 201, 2)), Outcome::Durable { .. }));
    let joins = (0..WAITING_MAX as u8).map(|n| Waiting { request: [n; 32], code: [n; 32], ..job(n, 201) });
    let joins: Vec<_> = joins
        .filter(|job| ![1, 3, 9, 201].contains(&job.request[0]) && !(20..most).contains(&job.request[0]))
        .collect();
    for wait in joins {
        assert!(matches!(
            one(engine.as_mut(), &mut chain, commit(vec![], vec![Change::Wait(Box::new(wait))])),
            Outcome::Durable { .. }
        ));
    }
    for number in 100.. {
        let mut request = [number; 32];
        request[0] = 255;
        let wait = Change::Wait(Box::new(Waiting { request, ..job(number, 201) }));
        match one(engine.as_mut(), &mut chain, commit(vec![], vec![wait])) {
            Outcome::Durable { .. } => assert!(one_of(place, 201).jobs.len() <= WAITING_MAX),
            other => {
                assert_eq!((other, one_of(place, 201).jobs.len()), (crowded, WAITING_MAX));
                break;
            }
        }
    }
}

pub(in crate::store::tests) fn a_ceremony_is_found_until_it_is_swept(place: &dyn Place) {
    let (mut engine, mut chain) = place.engine().unwrap();
    engine.apply(&[opening(1, 1, 1), opening(2, 2, 1)], &mut chain).unwrap();
    let reader = place.reader();
    let ids = |which| {
        let found = reader.ceremonies(which, 10).unwrap();
        found.into_iter().map(|one| one.ceremony.id.0).collect::<Vec<_>>()
    };
    assert_eq!(reader.census(NOW).unwrap().ceremonies, [("pending".to_owned(), 2)]);
    assert!(reader.census(NOW.plus(600)).unwrap().ceremonies.is_empty());
    assert_eq!(ids(WhichCeremonies::Open(CeremonyId(0))), [1, 2]);
    assert_eq!(ids(WhichCeremonies::Open(CeremonyId(1))), [2]);
    assert_eq!(ids(WhichCeremonies::OpenAbout([2; 32], NOW)), [2]);
    assert!(ids(WhichCeremonies::OpenAbout([2; 32], NOW.plus(600))).is_empty());
    assert!(ids(WhichCeremonies::Over(NOW)).is_empty());
    assert_eq!(ids(WhichCeremonies::Over(NOW.plus(600))), [1, 2]);
    // One whose time is over is in nobody's way.
    let again = Ceremony { opened: NOW.plus(600), ..ceremony(3, 1, 1) };
    let again = commit(vec![], vec![Change::OpenCeremony(Box::new(again))]);
    assert!(matches!(one(engine.as_mut(), &mut chain, again), Outcome::Durable { .. }));
    let expired = one_of(place, 1).ceremony.to(State::Expired);
    assert!(matches!(
        one(engine.as_mut(), &mut chain, commit(vec![Guard::Ceremony(expired)], vec![])),
        Outcome::Durable { .. }
    ));
    engine.sweep(NOW.plus(600 + KEPT_SECONDS - 1)).unwrap();
    assert_eq!(ids(WhichCeremonies::Of([1; 32])), [1], "its job may still ask");
    engine.sweep(NOW.plus(600 + KEPT_SECONDS)).unwrap();
    assert!(ids(WhichCeremonies::Of([1; 32])).is_empty() && ids(WhichCeremonies::One(CeremonyId(1))).is_empty());
    assert_eq!(ids(WhichCeremonies::Of([2; 32])), [2], "nobody has said yet what became of it");
    // What a store forgot may be that it was claimed, or that it was taken back.
    let epoch = Epoch { number: 2, id: 9, began: NOW.plus(-10), instead_of: Some(1) };
    let adopt = commit(vec![], vec![Change::Adopt(epoch)]);
    assert!(matches!(one(engine.as_mut(), &mut chain, adopt), Outcome::Durable { .. }));
    assert!(ids(WhichCeremonies::Open(CeremonyId(0))).is_empty());
    assert_eq!(one_of(place, 2).ceremony.state, State::Expired);
}

pub(in crate::store::tests) fn a_claim_stands_until_it_is_taken_back(place: &dyn Place) {
    let (mut engine, mut chain) = place.engine().unwrap();
    let subject = crate::store::Subject::new(crate::store::Scope::Repository, "github", "42");
    let standing = |number: u8| Standing {
        key: [number; 32],
        ceremony: CeremonyId(1),
        rule: [1; 32],
        since: NOW,
        until: NOW.plus(1_000),
        claims: vec![],
        shown: shown(),
        subjects: vec![[8; 32], if number == 4 { subject.key() } else { [9; 32] }],
    };
    let uses = |number: u8, rule: u8, after: i64| {
        let guard = Guard::Standing { key: [number; 32], rule: [rule; 32], at: NOW.plus(after) };
        commit(vec![guard], vec![])
    };
    let stand = |number| Change::Stand(Box::new(standing(number)));
    let unclaimed = Outcome::Blocked(Blocked::Unclaimed);
    let batch = [uses(1, 1, 0), commit(vec![], (1..=5).map(stand).collect()), uses(1, 1, 0)];
    assert_eq!(engine.apply(&batch, &mut chain).unwrap(), [unclaimed.clone(), durable(1), durable(2)]);
    let mut go = |commit| one(engine.as_mut(), &mut chain, commit);
    assert_eq!(go(uses(1, 1, 999)), durable(3));
    assert_eq!(
        (go(uses(1, 1, 1_000)), go(uses(1, 2, 0)), go(uses(6, 1, 0))),
        (unclaimed.clone(), unclaimed.clone(), unclaimed.clone())
    );
    let reader = place.reader();
    assert_eq!(reader.standing(WhichStanding::About([4; 32]), 1).unwrap(), [standing(4)]);
    let keys = |from: u8| {
        let found = reader.standing(WhichStanding::After([from; 32]), 10).unwrap();
        found.into_iter().map(|one| one.key[0]).collect::<Vec<_>>()
    };
    assert_eq!((keys(0), keys(3)), (vec![1, 2, 3, 4, 5], vec![4, 5]));
    assert_eq!(go(commit(vec![], vec![Change::ResetClaims(vec![[1; 32], [77; 32]])])), durable(4));
    assert_eq!(go(uses(1, 1, 0)), unclaimed);
    let carry = |from: u8| Change::CarryClaims { keys: vec![[2; 32], [3; 32]], from: [from; 32], to: [2; 32] };
    assert_eq!(go(commit(vec![], vec![carry(7)])), durable(5));
    assert_eq!((go(uses(2, 1, 0)), go(uses(2, 2, 0))), (durable(6), unclaimed.clone()), "it was another rule's");
    assert_eq!(go(commit(vec![], vec![carry(1)])), durable(7));
    assert_eq!((go(uses(2, 1, 0)), go(uses(2, 2, 0))), (unclaimed.clone(), durable(8)));
    // Void with the suspension, and so it stays when that is taken back.
    let suspension = Suspension {
        id: SuspensionId(1),
        subject: subject.clone(),
        since: NOW.0,
        until: None,
        operator: "ada".into(),
        reason: "odd".into(),
    };
    let suspend = commit(vec![], vec![Change::Suspend { suspension, replaces: None }]);
    let resume = commit(vec![], vec![Change::Resume { subject: subject.key(), suspension: SuspensionId(1) }]);
    assert_eq!((go(uses(4, 1, 0)), go(suspend), go(resume)), (durable(9), durable(10), durable(11)));
    assert_eq!((go(uses(4, 1, 0)), go(uses(5, 1, 0))), (unclaimed.clone(), durable(12)));
    // What is over is kept until somebody has said so, once.
    let over = |after: i64| {
        let found = reader.standing(WhichStanding::Over(NOW.plus(after)), 10).unwrap();
        found.into_iter().map(|one| one.key[0]).collect::<BTreeSet<_>>()
    };
    assert_eq!((over(999), over(1_000)), (BTreeSet::from([4]), BTreeSet::from([2, 3, 4, 5])));
    let lapse = |number: u8, after: i64| {
        let guard = Guard::Lapsed { key: [number; 32], at: NOW.plus(after) };
        commit(vec![guard], vec![Change::ResetClaims(vec![[number; 32]])])
    };
    assert_eq!(
        (go(lapse(5, 999)), go(lapse(5, 1_000)), go(lapse(5, 1_000))),
        (unclaimed.clone(), durable(13), unclaimed.clone())
    );
    assert_eq!((go(lapse(4, 0)), go(lapse(1, 1_000))), (durable(14), unclaimed.clone()));
    // One that is claimed anew meanwhile is not over.
    let anew = Standing { until: NOW.plus(2_000), ..standing(3) };
    let batch = [commit(vec![], vec![Change::Stand(Box::new(anew))]), lapse(3, 1_000), lapse(2, 1_000)];
    assert_eq!(engine.apply(&batch, &mut chain).unwrap(), [durable(15), unclaimed, durable(16)]);
    assert_eq!(keys(0), [3]);
}

pub(in crate::store::tests) fn a_suspension_ends_what_waits(place: &dyn Place) {
    let (mut engine, mut chain) = place.engine().unwrap();
    let subject =
        |number: u8| crate::store::Subject::new(crate::store::Scope::Repository, "github", number.to_string());
    let resting = |number: u8, on: u8| {
        let mut commit = opening(number.into(), number, 1);
        if let Change::OpenCeremony(ceremony) = &mut commit.changes[0] {
            ceremony.bound.subjects = vec![[8; 32], subject(on).key()];
        }
        commit
    };
    engine.apply(&[resting(1, 1), resting(2, 1), resting(3, 2)], &mut chain).unwrap();
    let consumed = || State::Consumed { claims: vec![], redeemed: 0 };
    let consume = one_of(place, 1).ceremony.to(consumed());
    let back = consume.then(State::Claimed { claims: vec![], redeemed: 1 }, true);
    let claim = one_of(place, 2).ceremony.to(claimed());
    let late = claim.then(consumed(), false);
    let suspension = Suspension {
        id: SuspensionId(1),
        subject: subject(1),
        since: NOW.plus(60).0,
        until: None,
        operator: "ada".into(),
        reason: "odd".into(),
    };
    let goes = |moved: Move| commit(vec![Guard::Ceremony(moved)], vec![]);
    // What came before it, also in one batch with it, ends; and nothing is given back to what was redeemed.
    let batch = [
        goes(consume),
        resting(4, 1),
        goes(claim),
        commit(vec![], vec![Change::Suspend { suspension, replaces: None }]),
        goes(late),
        commit(vec![], vec![Change::GiveClaimBack(back)]),
        resting(5, 1),
    ];
    let outcomes = engine.apply(&batch, &mut chain).unwrap();
    let blocked: Vec<_> = outcomes.iter().map(|one| matches!(one, Outcome::Blocked(Blocked::Moved))).collect();
    assert_eq!(blocked, [false, false, false, false, true, false, false], "{outcomes:?}");
    let found = [1, 2, 3, 4, 5].map(|number| one_of(place, number).ceremony);
    let ends = found.each_ref().map(|one| (one.void, one.bound.terms.expires.0 - NOW.0));
    assert_eq!(ends, [(true, 60), (true, 60), (false, 600), (true, 60), (false, 600)]);
    assert_eq!(found.each_ref().map(|one| one.state.name()), ["consumed", "claimed", "pending", "pending", "pending"]);
    let reader = place.reader();
    let over = reader.ceremonies(WhichCeremonies::Over(NOW.plus(60)), 10).unwrap();
    let over: BTreeSet<_> = over.into_iter().map(|one| one.ceremony.id.0).collect();
    assert_eq!(over, BTreeSet::from([2, 4]), "each waits for its record");
    assert!(reader.ceremonies(WhichCeremonies::OpenAbout([4; 32], NOW.plus(60)), 1).unwrap().is_empty());
    let expired = found[1].to(State::Expired);
    assert!(matches!(one(engine.as_mut(), &mut chain, goes(expired)), Outcome::Durable { .. }));
    engine.sweep(NOW.plus(60 + KEPT_SECONDS - 1)).unwrap();
    assert!(one_of(place, 2).ceremony.void, "its job may still ask");
}
