//! The contract suite: every engine passes it through [`contract!`].

mod ceremonies;
mod keeping;
mod tree;

use super::*;
use LeaseState::{Ended, Failed, Issued, Issuing, Unknown};
use claimbound_core::ceremony::Person;

/// Runs the suite over what `$place` makes.
macro_rules! contract {
    ($place:expr; $($name:ident)*) => { $(
        #[test]
        fn $name() {
            let place = $place;
            super::contract::$name(&place);
        }
    )* };
    ($place:expr) => {
        contract! { $place;
            a_token_is_spent_once_in_a_batch a_token_is_spent_once_across_waiters what_is_blocked_writes_nothing
            only_the_same_request_goes_again_after_a_failure a_token_is_used_as_often_as_it_may_be
            a_note_is_kept_until_it_is_swept a_token_in_flight_says_so_until_it_is_settled
            a_lease_is_settled_once_and_ended_once a_fact_is_fixed_for_ever a_census_counts_what_is_alive a_folder_is_kept_once
            a_forgotten_token_stays_refused each_start_goes_on_with_the_chain leases_are_found_again
            a_batch_that_fails_leaves_nothing a_limit_holds_until_its_window_is_over
            a_use_is_given_back_in_its_window a_token_is_spent_without_a_record
            a_walk_shows_every_record_once_and_ends_when_told a_session_lives_until_it_is_ended_or_swept
            records_are_shown_from_the_end
            a_suspension_holds_from_its_commit_until_it_is_over
            a_suspension_is_replaced_by_whoever_saw_it leases_are_found_by_what_they_are_about
            denials_stay_as_long_as_the_longest_and_persons_as_long_as_their_lease
            a_refresh_token_has_one_turn
            a_family_ends_with_its_leases a_lease_ends_with_all_that_came_of_it leases_are_found_by_who_acts a_turn_is_given_back a_status_list_shows_what_was_ended
            a_tree_grows_and_proves_in_stored_order a_store_that_was_adopted_refuses_older_tokens
            what_may_have_been_forgotten_ends_with_an_adoption
            a_ceremony_moves_once_from_each_version a_ceremony_is_found_until_it_is_swept
            a_claim_stands_until_it_is_taken_back a_suspension_ends_what_waits
            what_is_old_goes_and_the_rest_verifies a_lease_that_lives_keeps_its_record
        }
    };
}
pub(super) use ceremonies::*;
pub(super) use contract;
pub(super) use keeping::*;
pub(super) use tree::*;

fn one(engine: &mut dyn Engine, chain: &mut Chain, commit: Commit) -> Outcome {
    engine.apply(&[commit], chain).unwrap().remove(0)
}

pub(super) fn a_token_is_spent_once_in_a_batch(place: &dyn Place) {
    let (mut engine, mut chain) = place.engine().unwrap();
    let batch: Vec<Commit> = (0..64).map(|number| grant(number, spend(1, Issued))).collect();
    let outcomes = engine.apply(&batch, &mut chain).unwrap();
    assert_eq!(outcomes[0], durable(1));
    assert!(outcomes[1..].iter().all(|outcome| *outcome == Outcome::Blocked(Blocked::Replay)));
    assert_eq!(one(engine.as_mut(), &mut chain, grant(99, spend(2, Issued))), durable(2), "no place was wasted");
    verified(place, 2);
}

pub(super) fn a_token_is_spent_once_across_waiters(place: &dyn Place) {
    let (engine, chain) = place.engine().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_time().build().unwrap();
    runtime.block_on(async {
        let writer = Writer::start(engine, chain);
        let waiters: Vec<_> = (0..64)
            .map(|number| {
                let writer = writer.clone();
                tokio::spawn(async move { writer.commit(grant(number, spend(1, Issuing))).await.unwrap() })
            })
            .collect();
        let mut granted = 0;
        for waiter in waiters {
            match waiter.await.unwrap() {
                Outcome::Durable { sequence } => granted += sequence,
                Outcome::Blocked(blocked) => assert_eq!(blocked, Blocked::InFlight),
            }
        }
        assert_eq!(granted, 1);
        writer.stop().await;
    });
    verified(place, 1);
}

pub(super) fn what_is_blocked_writes_nothing(place: &dyn Place) {
    let (mut engine, mut chain) = place.engine().unwrap();
    let head = chain.head;
    let mut late_guard = grant(1, spend(1, Issued));
    late_guard.guards.push(Guard::LeaseAlive(LeaseId(77)));
    let fix = |value: &str| Change::Fix { name: "issuer_url".into(), value: value.into() };
    let mut late_change = grant(2, spend(2, Issued));
    late_change.changes.extend([keep_folder(b"late"), fix("https://a"), fix("https://b")]);
    assert_eq!(
        engine.apply(&[late_guard, late_change], &mut chain).unwrap(),
        [Outcome::Blocked(Blocked::LeaseEnded), Outcome::Blocked(Blocked::FixedOtherwise)]
    );
    assert_eq!((chain.sequence, chain.head), (0, head));
    let reader = place.reader();
    assert_eq!(reader.folder(&[4; 32]).unwrap(), None);
    assert!(reader.decision(decision(1)).unwrap().is_empty());
    verified(place, 0);
    let again = [grant(1, spend(1, Issued)), grant(2, spend(2, Issued)), refuse(3, vec![], vec![fix("https://b")])];
    let outcomes = engine.apply(&again, &mut chain).unwrap();
    assert_eq!(outcomes, [durable(1), durable(2), durable(3)], "neither token, lease nor fact was kept");
    assert_eq!(verified(place, 3).leases, 2);
}

pub(super) fn only_the_same_request_goes_again_after_a_failure(place: &dyn Place) {
    let (mut engine, mut chain) = place.engine().unwrap();
    let mut go = |commit| one(engine.as_mut(), &mut chain, commit);
    let replay = Outcome::Blocked(Blocked::Replay);
    let again = Spend { may_retry: true, ..spend(1, Issuing) };
    assert_eq!(go(grant(1, again)), durable(1));
    for attempt in 0..3_u64 {
        let number = u128::from(attempt) + 1;
        assert_eq!(go(settle(number, Failed)), durable(2 + 2 * attempt));
        assert_eq!(go(grant(50, Spend { request: [2; 32], ..again })), replay, "another request");
        assert_eq!(go(grant(50, Spend { may_retry: false, ..again })), replay, "jobs that can mint again");
        let next = go(grant(number + 1, again));
        assert_eq!(next, if attempt < 2 { durable(3 + 2 * attempt) } else { replay.clone() }, "attempt {attempt}");
    }
    verified(place, 6);
}

pub(super) fn a_token_is_used_as_often_as_it_may_be(place: &dyn Place) {
    let (mut engine, mut chain) = place.engine().unwrap();
    let mut go = |commit| one(engine.as_mut(), &mut chain, commit);
    let replay = Outcome::Blocked(Blocked::Replay);
    let several = Spend { uses: 3, ..spend(1, Issuing) };
    for number in 1..=3_u64 {
        assert_eq!(go(grant(number.into(), several)), durable(2 * number - 1));
        assert_eq!(go(grant(50, several)), Outcome::Blocked(Blocked::InFlight), "one after another");
        assert_eq!(go(settle(number.into(), Issued)), durable(2 * number));
        assert_eq!(go(grant(50, Spend { request: [2; 32], ..several })), replay, "another request");
        assert_eq!(go(grant(50, Spend { uses: 1, ..several })), replay, "one that may not");
    }
    assert_eq!(go(grant(50, several)), replay, "a fourth time");
    assert_eq!(go(grant(60, Spend { uses: 9, ..spend(2, Issuing) })), durable(7));
    assert_eq!(go(settle(60, Unknown)), durable(8));
    assert_eq!(go(grant(61, Spend { uses: 9, ..spend(2, Issuing) })), replay, "nobody knows what came of it");
    verified(place, 8);
}

pub(super) fn a_note_is_kept_until_it_is_swept(place: &dyn Place) {
    let (mut engine, mut chain) = place.engine().unwrap();
    let mut go = |commit| one(engine.as_mut(), &mut chain, commit);
    let note = |key: u8, text: &str, until| {
        Change::Note(Note { key: [key; 32], text: text.to_owned(), until: NOW.plus(until) })
    };
    assert_eq!(go(refuse(1, vec![], vec![note(1, "first", 10), note(2, "b", 20), note(1, "again", 30)])), durable(1));
    let alone = Commit { guards: vec![], changes: vec![note(3, "c", 10)], entry: None };
    assert_eq!(go(alone), durable(1), "without a record");
    let blocked = refuse(2, vec![Guard::LeaseAlive(LeaseId(77))], vec![note(2, "never", 90)]);
    assert!(matches!(go(blocked), Outcome::Blocked(_)));
    let read = |key: u8| place.reader().note(&[key; 32]).unwrap();
    let text = |text: &str| Some(text.to_owned());
    assert_eq!((read(1), read(2), read(3), read(4)), (text("again"), text("b"), text("c"), None));
    engine.sweep(NOW.plus(20)).unwrap();
    assert_eq!((read(1), read(2), read(3)), (text("again"), None, None));
    verified(place, 1);
}

pub(super) fn a_token_in_flight_says_so_until_it_is_settled(place: &dyn Place) {
    let (mut engine, mut chain) = place.engine().unwrap();
    let mut go = |commit| one(engine.as_mut(), &mut chain, commit);
    for (number, settled) in [(1, Issued), (2, Unknown)] {
        let again = Spend { may_retry: true, ..spend(number, Issuing) };
        assert!(matches!(go(grant(number.into(), again)), Outcome::Durable { .. }));
        assert_eq!(go(grant(50, again)), Outcome::Blocked(Blocked::InFlight));
        assert!(matches!(go(settle(number.into(), settled)), Outcome::Durable { .. }));
        assert_eq!(go(grant(50, again)), Outcome::Blocked(Blocked::Replay), "{settled:?}");
    }
    // Ended while it was under way: over, and not to be had again.
    assert!(matches!(go(grant(3, spend(3, Issuing))), Outcome::Durable { .. }));
    assert!(matches!(go(end(3)), Outcome::Durable { .. }));
    assert_eq!(go(grant(50, spend(3, Issuing))), Outcome::Blocked(Blocked::Replay));
    verified(place, 6);
}

pub(super) fn a_lease_is_settled_once_and_ended_once(place: &dyn Place) {
    let (mut engine, mut chain) = place.engine().unwrap();
    let mut go = |commit| one(engine.as_mut(), &mut chain, commit);
    let over = Outcome::Blocked(Blocked::LeaseEnded);
    let alive = |number| refuse(90, vec![Guard::LeaseAlive(LeaseId(number))], vec![]);
    assert_eq!(go(settle(1, Issued)), over, "an unknown lease");
    assert_eq!(go(end(1)), over, "an unknown lease");
    assert_eq!(go(alive(1)), over, "an unknown lease");
    assert_eq!(go(grant(1, spend(1, Issuing))), durable(1));
    assert_eq!(go(alive(1)), durable(2));
    assert_eq!(go(settle(1, Unknown)), durable(3));
    assert_eq!(go(settle(1, Issued)), over, "a sweeper came first");
    assert_eq!(go(alive(1)), durable(4));
    assert_eq!(go(end(1)), durable(5));
    assert_eq!(go(end(1)), over);
    assert_eq!(go(settle(1, Issued)), over);
    assert_eq!(go(alive(1)), over);
    assert_eq!(go(grant(2, spend(2, Issuing))), durable(6));
    assert_eq!(go(settle(2, Failed)), durable(7));
    assert_eq!(go(alive(2)), over, "nothing was minted");
    assert_eq!(go(end(2)), over, "nothing was minted");
    let replay = Outcome::Blocked(Blocked::Replay);
    let again = |of| grant(50, Spend { may_retry: true, ..spend(of, Issued) });
    assert_eq!(go(again(1)), replay, "it was unknown when it was ended");
    // Opened as `issued`: whoever opened it may take that back, a sweeper may not.
    assert_eq!(go(grant(3, spend(3, Issued))), durable(8));
    assert_eq!(go(settle(3, Unknown)), over, "a sweeper that came late");
    assert_eq!(go(settle_from(3, Issued, Failed)), durable(9));
    assert_eq!(go(settle_from(3, Issued, Failed)), over);
    assert_eq!(go(end(3)), over, "nothing was minted");
    assert_eq!(go(again(3)), durable(10), "its token goes as after any failure");
    verified(place, 10);
}

pub(super) fn a_fact_is_fixed_for_ever(place: &dyn Place) {
    let (mut engine, mut chain) = place.engine().unwrap();
    let fix = |value: &str| refuse(1, vec![], vec![Change::Fix { name: "issuer_url".into(), value: value.into() }]);
    assert_eq!(
        engine.apply(&[fix("https://a"), fix("https://a"), fix("https://b")], &mut chain).unwrap(),
        [durable(1), durable(2), Outcome::Blocked(Blocked::FixedOtherwise)]
    );
    drop(engine);
    let (mut engine, mut chain) = place.engine().unwrap();
    assert_eq!(one(engine.as_mut(), &mut chain, fix("https://b")), Outcome::Blocked(Blocked::FixedOtherwise));
    assert_eq!(one(engine.as_mut(), &mut chain, fix("https://a")), durable(1));
    assert_eq!(place.reader().facts().unwrap(), [("issuer_url".to_owned(), "https://a".to_owned())].into());
}

pub(super) fn a_census_counts_what_is_alive(place: &dyn Place) {
    let (mut engine, mut chain) = place.engine().unwrap();
    let mut go = |commit| one(engine.as_mut(), &mut chain, commit);
    let today = u128::from_be_bytes(open::oldest_live(NOW));
    go(grant(today + 1, spend(1, Issued)));
    go(grant(today + 2, spend(2, Issuing)));
    go(grant(today + 3, spend(3, Issued)));
    go(end(today + 3));
    go(grant(today - 1, spend(4, Issued)));
    let census = place.reader().census(NOW).unwrap();
    assert_eq!(census.live, [(Issued, 1), (Issuing, 1)], "neither ended nor older than any lease lives");
    assert!(census.bytes > 0);
    let expires = lease(today + 1, 1, Issued).expires;
    assert!(place.reader().census(expires).unwrap().live.is_empty());
}

fn keep_folder(archive: &[u8]) -> Change {
    Change::KeepFolder { version: [4; 32], archive: archive.into() }
}

pub(super) fn a_folder_is_kept_once(place: &dyn Place) {
    let (mut engine, mut chain) = place.engine().unwrap();
    let batch = [refuse(1, vec![], vec![keep_folder(b"first")]), refuse(2, vec![], vec![keep_folder(b"again")])];
    assert_eq!(engine.apply(&batch, &mut chain).unwrap(), [durable(1), durable(2)]);
    let reader = place.reader();
    assert_eq!(reader.folder(&[4; 32]).unwrap().as_deref(), Some(&b"first"[..]));
    assert_eq!(reader.folder(&[5; 32]).unwrap(), None);
    reader.ping().unwrap();
}

pub(super) fn a_forgotten_token_stays_refused(place: &dyn Place) {
    let old = Spend { token: SpentKey::for_tests(token(1), KEPT.plus(-1)), ..spend(1, Issued) };
    {
        let (mut engine, mut chain) = place.engine().unwrap();
        assert_eq!(
            engine.apply(&[grant(1, old), grant(2, spend(2, Issued))], &mut chain).unwrap(),
            [durable(1), durable(2)]
        );
        assert_eq!(engine.sweep(KEPT.plus(-1)).unwrap(), 0, "kept until then, and then still");
        assert_eq!(engine.sweep(KEPT).unwrap(), 1);
        assert_eq!(engine.sweep(KEPT).unwrap(), 0);
    }
    // Also for whoever comes later with a clock that was set back.
    let (mut engine, mut chain) = place.engine().unwrap();
    let replay = Outcome::Blocked(Blocked::Replay);
    assert_eq!(
        engine.apply(&[grant(3, old), grant(4, spend(2, Issued)), grant(5, spend(5, Issued))], &mut chain).unwrap(),
        [replay.clone(), replay, durable(1)]
    );
    verified(place, 3);
    // A clock that ran ahead refuses no token that is newer than those it removed.
    assert_eq!(engine.sweep(KEPT.plus(1_000_000_000)).unwrap(), 2);
    let newer = Spend { token: SpentKey::for_tests(token(6), KEPT.plus(1)), ..spend(6, Issued) };
    assert_eq!(one(engine.as_mut(), &mut chain, grant(6, newer)), durable(2));
    verified(place, 4);
}

pub(super) fn each_start_goes_on_with_the_chain(place: &dyn Place) {
    let mut incarnations = Vec::new();
    for start in 0..3 {
        let (mut engine, mut chain) = place.engine().unwrap();
        incarnations.push(chain.incarnation);
        // The second writes nothing.
        if start != 1 {
            assert_eq!(one(engine.as_mut(), &mut chain, grant(start.into(), spend(start, Issued))), durable(1));
        }
        assert_eq!(
            verified(place, u64::from(start > 0) + u64::from(start == 0 || start == 2)).chain.head(),
            chain.head
        );
    }
    incarnations.sort_unstable();
    incarnations.dedup();
    assert_eq!(incarnations.len(), 3);
    assert_eq!(verified(place, 2).chain.incarnations(), 2);
}

pub(super) fn leases_are_found_again(place: &dyn Place) {
    let (mut engine, mut chain) = place.engine().unwrap();
    assert_eq!(one(engine.as_mut(), &mut chain, grant(1, spend(1, Issued))), durable(1));
    assert_eq!(one(engine.as_mut(), &mut chain, grant(2, spend(2, Issuing))), durable(2));
    let reader = place.reader();
    assert!(reader.unsettled(NOW).unwrap().is_empty(), "opened this very second");
    let unsettled = reader.unsettled(NOW.plus(1)).unwrap();
    let unsettled: Vec<_> = unsettled.iter().map(|lease| (lease.id, lease.role.as_str())).collect();
    assert_eq!(unsettled, [(LeaseId(2), "deploy")]);
    let mut bound = settle(2, Issued);
    bound.changes.push(Change::Hold { lease: LeaseId(2), possession: [8; 32] });
    assert_eq!(one(engine.as_mut(), &mut chain, bound), durable(3));
    assert!(reader.unsettled(NOW.plus(1)).unwrap().is_empty());
    let held = reader.held(&[8; 32]).unwrap().expect("the handle finds its lease");
    assert_eq!((held.id, held.role.as_str(), held.handle.as_deref()), (LeaseId(2), "deploy", Some("handle")));
    assert_eq!(held.expires, NOW.plus(900));
    assert!(reader.held(&[9; 32]).unwrap().is_none());
    let nobody = refuse(9, vec![], vec![Change::Hold { lease: LeaseId(77), possession: [9; 32] }]);
    assert_eq!(one(engine.as_mut(), &mut chain, nobody), Outcome::Blocked(Blocked::LeaseEnded));
    assert_eq!(one(engine.as_mut(), &mut chain, end(1)), durable(4));
    let told: Vec<u64> = reader.decision(decision(2)).unwrap().iter().map(|stored| stored.sequence).collect();
    assert_eq!(told, [2, 3], "oldest first");
    assert!(reader.decision(decision(9)).unwrap().is_empty());
    let mut seen = Vec::new();
    let mut each = |kept: Kept| {
        seen.push(match kept {
            Kept::Record(stored) => Ok(stored.sequence),
            Kept::Lease(lease) => Err((lease.id, lease.state)),
            _ => return true,
        });
        seen.len() < 5
    };
    reader.snapshot(&mut each).unwrap();
    assert_eq!(seen, [Ok(1), Ok(2), Ok(3), Ok(4), Err((LeaseId(1), Ended))], "stops when told so");
}

/// A lease id that is taken is no verdict: it cannot happen, so nothing of its batch is believed.
pub(super) fn a_batch_that_fails_leaves_nothing(place: &dyn Place) {
    let (mut engine, mut chain) = place.engine().unwrap();
    assert_eq!(one(engine.as_mut(), &mut chain, grant(1, spend(1, Issued))), durable(1));
    let mut tried = chain.clone();
    let impossible = [grant(2, spend(2, Issued)), grant(1, spend(3, Issued)), grant(4, spend(4, Issued))];
    engine.apply(&impossible, &mut tried).unwrap_err();
    verified(place, 1);
    let after = [grant(2, spend(2, Issued)), grant(3, spend(3, Issued)), grant(4, spend(4, Issued))];
    assert_eq!(engine.apply(&after, &mut chain).unwrap(), [durable(2), durable(3), durable(4)]);
    verified(place, 4);
}

pub(super) fn a_limit_holds_until_its_window_is_over(place: &dyn Place) {
    let (mut engine, mut chain) = place.engine().unwrap();
    let taken = |number: u8, of, at| {
        let mut commit = grant(number.into(), spend(number, Issued));
        commit.guards.push(Guard::Within(use_at(of, at)));
        commit
    };
    let exhausted = |until| Outcome::Blocked(Blocked::Exhausted { until });
    let batch = [taken(1, 1, NOW), taken(2, 1, NOW.plus(3_599)), taken(3, 1, NOW.plus(1)), taken(3, 2, NOW)];
    let outcomes = engine.apply(&batch, &mut chain).unwrap();
    assert_eq!(outcomes, [durable(1), durable(2), exhausted(NOW.plus(3_600)), durable(3)], "who loses spent no token");
    let mut go = |commit| one(engine.as_mut(), &mut chain, commit);
    // What another guard blocks takes nothing.
    let mut lost = taken(9, 2, NOW);
    lost.guards.push(Guard::LeaseAlive(LeaseId(77)));
    assert_eq!(go(lost), Outcome::Blocked(Blocked::LeaseEnded));
    assert_eq!(go(taken(4, 2, NOW)), durable(4));
    assert_eq!(go(taken(9, 2, NOW.plus(3_599))), exhausted(NOW.plus(3_600)));
    let later = NOW.plus(4_000);
    assert_eq!(go(taken(5, 2, later)), durable(5), "a window begins with its first use");
    assert_eq!(go(taken(6, 2, later.plus(3_599))), durable(6));
    assert_eq!(go(taken(9, 2, later.plus(3_599))), exhausted(later.plus(3_600)));
    // A clock that is a little behind changes nothing; one that ran far ahead holds nobody for long.
    assert_eq!(go(taken(9, 2, later.plus(-3_600))), exhausted(later.plus(3_600)));
    assert_eq!(go(taken(7, 2, later.plus(-3_601))), durable(7));
    // Swept when it is over, not before.
    let take = |at| refuse(8, vec![Guard::Within(use_at(2, at))], vec![]);
    let before = later.plus(-3);
    engine.sweep(later.plus(-2)).unwrap();
    assert_eq!(one(engine.as_mut(), &mut chain, take(before)), durable(8));
    assert_eq!(one(engine.as_mut(), &mut chain, take(before)), exhausted(later.plus(-1)));
    engine.sweep(later.plus(-1)).unwrap();
    for place in [durable(9), durable(10), exhausted(before.plus(3_600))] {
        assert_eq!(one(engine.as_mut(), &mut chain, take(before)), place);
    }
    verified(place, 10);
}

pub(super) fn a_use_is_given_back_in_its_window(place: &dyn Place) {
    let (mut engine, mut chain) = place.engine().unwrap();
    let mut go = |commit| one(engine.as_mut(), &mut chain, commit);
    let take = |at| refuse(1, vec![Guard::Within(use_at(1, at))], vec![]);
    let back = |at| refuse(2, vec![], vec![Change::GiveBack(use_at(1, at))]);
    let exhausted = |until| Outcome::Blocked(Blocked::Exhausted { until });
    assert_eq!(go(back(NOW)), durable(1), "there was none");
    assert_eq!(
        [go(take(NOW)), go(take(NOW.plus(9))), go(take(NOW))],
        [durable(2), durable(3), exhausted(NOW.plus(3_600))]
    );
    assert_eq!(
        [go(back(NOW.plus(9))), go(take(NOW)), go(take(NOW))],
        [durable(4), durable(5), exhausted(NOW.plus(3_600))]
    );
    let next = NOW.plus(3_600);
    assert_eq!(
        [go(take(next)), go(back(NOW)), go(take(next)), go(take(next))],
        [durable(6), durable(7), durable(8), exhausted(next.plus(3_600))],
        "of a window that is over"
    );
    for number in 9..14 {
        assert_eq!(go(back(next)), durable(number));
    }
    assert_eq!(
        [go(take(next)), go(take(next)), go(take(next))],
        [durable(14), durable(15), exhausted(next.plus(3_600))]
    );
    verified(place, 15);
}

/// An answer that is summed costs its token all the same.
pub(super) fn a_token_is_spent_without_a_record(place: &dyn Place) {
    {
        let (mut engine, mut chain) = place.engine().unwrap();
        let silent =
            |number| Commit { guards: vec![Guard::Unspent(spend(number, Issued))], changes: vec![], entry: None };
        let replay = Outcome::Blocked(Blocked::Replay);
        let batch = [silent(1), grant(2, spend(2, Issued)), silent(3), silent(1), grant(4, spend(3, Issued))];
        let outcomes = engine.apply(&batch, &mut chain).unwrap();
        assert_eq!(outcomes, [durable(0), durable(1), durable(1), replay.clone(), replay]);
        assert_eq!(verified(place, 1).chain.head(), chain.head);
    }
    let (mut engine, mut chain) = place.engine().unwrap();
    assert_eq!(one(engine.as_mut(), &mut chain, grant(5, spend(1, Issued))), Outcome::Blocked(Blocked::Replay));
}

pub(super) fn a_walk_shows_every_record_once_and_ends_when_told(place: &dyn Place) {
    let (mut engine, mut chain) = place.engine().unwrap();
    let walked = |most: usize| {
        let mut seen = Vec::new();
        let walk = place.reader().records(&mut |body, details| {
            assert!(!details.is_empty());
            seen.push(claimbound_core::evidence::decision_of(body).unwrap());
            seen.len() < most
        });
        walk.unwrap();
        seen
    };
    assert_eq!(walked(usize::MAX), []);
    // More than one read shows, by any engine.
    let batch: Vec<Commit> = (0..9_000).map(|number| refuse(number, vec![], vec![])).collect();
    engine.apply(&batch, &mut chain).unwrap();
    assert_eq!(walked(usize::MAX), (0..9_000).map(decision).collect::<Vec<_>>());
    assert_eq!(walked(5_000).len(), 5_000);
    let reader = place.reader();
    let sequences = |after, most| -> Vec<u64> {
        reader.chain(chain.incarnation, after, most).unwrap().iter().map(|stored| stored.sequence).collect()
    };
    assert_eq!((sequences(8_998, 5), sequences(3, 2), sequences(9_000, 5)), (vec![8_999, 9_000], vec![4, 5], vec![]));
    assert!(reader.chain(7, 0, 5).unwrap().is_empty(), "another incarnation");
}

pub(super) fn a_session_lives_until_it_is_ended_or_swept(place: &dyn Place) {
    let (mut engine, mut chain) = place.engine().unwrap();
    let session = |number: u8| Session {
        session: [number; 32],
        operator: "okta:00u1".into(),
        sign_in: "okta".into(),
        may: "explain audit".into(),
        binding: [9; 32],
        expires: NOW.plus(i64::from(number)),
        person: (number == 2).then(|| Person {
            sign_in: "okta".into(),
            subject: "00u1".into(),
            email: None,
            name: Some("Ada".into()),
            groups: vec!["leads".into()],
            acr: None,
            amr: vec![],
            auth_time: Some(1),
            forge_ids: Default::default(),
        }),
    };
    let open = |number: u8| refuse(number.into(), vec![], vec![Change::OpenSession(session(number))]);
    let reader = place.reader();
    assert_eq!(engine.apply(&[open(1), open(2), open(3)], &mut chain).unwrap(), [durable(1), durable(2), durable(3)]);
    assert_eq!(reader.session(&[2; 32]).unwrap(), Some(session(2)));
    let mut lost = open(4);
    lost.guards.push(Guard::LeaseAlive(LeaseId(77)));
    assert_eq!(one(engine.as_mut(), &mut chain, lost), Outcome::Blocked(Blocked::LeaseEnded));
    assert_eq!(reader.session(&[4; 32]).unwrap(), None, "what is blocked opens none");
    let end = |number: u8| refuse(number.into(), vec![], vec![Change::EndSession([number; 32])]);
    assert_eq!(one(engine.as_mut(), &mut chain, end(2)), durable(4));
    assert_eq!(one(engine.as_mut(), &mut chain, end(2)), durable(5), "there is none any more");
    assert_eq!(reader.session(&[2; 32]).unwrap(), None);
    let again = Session { may: "link 7".into(), ..session(3) };
    let replaces = refuse(6, vec![], vec![Change::OpenSession(again.clone())]);
    assert_eq!(one(engine.as_mut(), &mut chain, replaces), durable(6));
    assert_eq!(reader.session(&[3; 32]).unwrap(), Some(again), "one of the same key is replaced");
    engine.sweep(NOW.plus(1)).unwrap();
    let left = [1, 3].map(|number| reader.session(&[number; 32]).unwrap().is_some());
    assert_eq!(left, [false, true], "swept when it is over");
    verified(place, 6);
}

pub(super) fn records_are_shown_from_the_end(place: &dyn Place) {
    let (mut engine, mut chain) = place.engine().unwrap();
    let batch: Vec<Commit> = (1..=5).map(|number| refuse(number, vec![], vec![])).collect();
    engine.apply(&batch, &mut chain).unwrap();
    let reader = place.reader();
    let shown = |position, rows| {
        let shown = reader.before(position, rows).unwrap();
        shown.into_iter().map(|stored| (stored.sequence, stored.position)).unzip::<_, _, Vec<_>, Vec<_>>()
    };
    let (sequences, positions) = shown(None, 2);
    assert_eq!(sequences, [5, 4]);
    assert_eq!(shown(positions.last().copied(), 9).0, [3, 2, 1]);
}

pub(super) fn a_suspension_holds_from_its_commit_until_it_is_over(place: &dyn Place) {
    let (mut engine, mut chain) = place.engine().unwrap();
    let case = |number: u8, of: &[u8], at| {
        let mut commit = grant(number.into(), spend(number, Issued));
        commit.guards.push(not_suspended(of, at));
        commit
    };
    let by = |number| Outcome::Blocked(Blocked::Suspended(SuspensionId(number)));
    // In one batch, in its order.
    let batch = [case(1, &[1, 2], NOW), suspend(70, 2, None, None), case(2, &[1, 2], NOW), case(3, &[1, 3], NOW)];
    let outcomes = engine.apply(&batch, &mut chain).unwrap();
    assert_eq!(outcomes, [durable(1), durable(2), by(70), durable(3)], "who loses spent no token");
    {
        let mut go = |commit| one(engine.as_mut(), &mut chain, commit);
        assert_eq!(go(case(2, &[2], NOW)), by(70));
        let both = refuse(60, vec![Guard::Unspent(spend(1, Issued)), not_suspended(&[2], NOW)], vec![]);
        assert_eq!(go(both), Outcome::Blocked(Blocked::Replay), "a used token learns nothing else");
        assert_eq!(go(suspend(71, 5, Some(NOW.plus(60)), None)), durable(4));
        assert_eq!(go(case(4, &[5], NOW.plus(59))), by(71));
        assert_eq!(go(case(4, &[5], NOW.plus(60))), durable(5), "over by itself");
        assert_eq!(go(resume(70, 2)), durable(6));
        assert_eq!(go(resume(70, 2)), Outcome::Blocked(Blocked::Moved));
        assert_eq!(go(case(2, &[2], NOW)), durable(7));
        assert_eq!(go(suspend(72, 2, None, None)), durable(8));
    }
    drop(engine);
    let (mut engine, mut chain) = place.engine().unwrap();
    assert_eq!(one(engine.as_mut(), &mut chain, case(6, &[2], NOW)), by(72), "over a restart");
    let told = place.reader().suspensions().unwrap();
    let ids: Vec<u128> = told.iter().map(|suspension| suspension.id.0).collect();
    assert_eq!((ids, &told[0].subject, &*told[0].operator), (vec![71, 72], &subject(5), "okta:alice"));
    verified(place, 8);
}

pub(super) fn a_suspension_is_replaced_by_whoever_saw_it(place: &dyn Place) {
    let (mut engine, mut chain) = place.engine().unwrap();
    let mut go = |commit| one(engine.as_mut(), &mut chain, commit);
    let moved = Outcome::Blocked(Blocked::Moved);
    assert_eq!(go(suspend(1, 2, Some(NOW.plus(9)), Some(7))), moved, "nothing stands");
    assert_eq!(go(suspend(1, 2, Some(NOW.plus(9)), None)), durable(1));
    assert_eq!(go(suspend(2, 2, None, None)), moved, "something stands");
    assert_eq!(go(resume(2, 2)), moved, "another one stands");
    assert_eq!(go(resume(1, 3)), moved, "of another subject");
    assert_eq!(go(suspend(2, 2, None, Some(1))), durable(2));
    assert_eq!(go(suspend(3, 2, None, Some(1))), moved, "somebody else was first");
    let stands = place.reader().suspensions().unwrap().remove(0);
    assert_eq!((stands.id, stands.until), (SuspensionId(2), None));
    assert!(stands.stands(NOW.plus(1 << 40)));
    assert_eq!(place.reader().suspension(&subject(2).key()).unwrap(), Some(stands));
    assert_eq!(place.reader().suspension(&subject(3).key()).unwrap(), None);
    verified(place, 2);
}

pub(super) fn leases_are_found_by_what_they_are_about(place: &dyn Place) {
    use crate::store::leases::{Cursor, LeaseFilter, When, page};
    let (mut engine, mut chain) = place.engine().unwrap();
    let batch: Vec<Commit> = (1..=9_u8)
        .map(|number| {
            let mut commit = grant(number.into(), spend(number, Issued));
            let [Change::OpenLease(lease)] = &mut commit.changes[..] else { panic!("a grant opens a lease") };
            lease.opened = NOW.plus(i64::from(number));
            lease.run_id = Some(number.to_string());
            if number % 2 == 0 {
                (lease.repository_id, lease.principal_id) = (Some("77".into()), "77".into());
                lease.principal_name = "acme/other".into();
                lease.owner_id = Some("5".into());
                lease.person = Some(subject_key(Scope::Person, "github", "99"));
            }
            commit
        })
        .collect();
    engine.apply(&batch, &mut chain).unwrap();
    assert!(matches!(one(engine.as_mut(), &mut chain, end(4)), Outcome::Durable { .. }));
    let reader = place.reader();
    let now = NOW.plus(10);
    let find = |filter: LeaseFilter, when| {
        let (mut found, mut cursor) = (Vec::new(), None);
        loop {
            let page = page(&*reader, &filter, when, cursor, 2).unwrap();
            assert!(page.leases.len() <= 2);
            found.extend(page.leases.iter().map(|lease| lease.id.0));
            cursor = match page.next {
                Some(next) => Some(next.to_string().parse::<Cursor>().unwrap()),
                None => return found,
            };
        }
    };
    let alive = When::Alive { now, until: None };
    let ever = When::Since(UnixSeconds(0));
    let any = LeaseFilter::default;
    let text = |text: &str| Some(text.to_owned());
    let (all, even): (Vec<u128>, Vec<u128>) = ((1..=9).rev().collect(), vec![8, 6, 4, 2]);
    assert_eq!(find(any(), ever), all, "the youngest first");
    assert_eq!(find(any(), alive), [1, 2, 3, 5, 6, 7, 8, 9], "those that end soonest first");
    for (filter, found) in [
        (LeaseFilter { repository: text("77"), ..any() }, &even),
        (LeaseFilter { repository: text("acme/other"), ..any() }, &even),
        (LeaseFilter { principal: text("77"), issuer: text("github"), ..any() }, &even),
        (LeaseFilter { tenant: text("5"), ..any() }, &even),
        (LeaseFilter { person: text("99"), issuer: text("github"), ..any() }, &even),
        (LeaseFilter { role: text("deploy"), mapping: text("payments/deploy"), team: text("payments"), ..any() }, &all),
        (LeaseFilter { mapping: text("payments/deploy"), ..any() }, &all),
        (LeaseFilter { run: text("3"), ..any() }, &vec![3]),
        (LeaseFilter { lease: Some(LeaseId(3)), ..any() }, &vec![3]),
        (LeaseFilter { lease: Some(LeaseId(30)), ..any() }, &vec![]),
        (LeaseFilter { state: text("ended"), ..any() }, &vec![4]),
        (LeaseFilter { issuer: text("gitlab"), ..any() }, &vec![]),
        (LeaseFilter { role: text("deploy"), repository: text("78"), ..any() }, &vec![]),
    ] {
        assert_eq!(find(filter.clone(), ever), *found, "{filter:?}");
        let mut living: Vec<u128> = find(filter.clone(), alive);
        living.reverse();
        let expected: Vec<u128> = found.iter().copied().filter(|id| *id != 4).collect();
        assert_eq!(living, expected, "{filter:?}");
    }
    assert_eq!(find(any(), When::At(NOW.plus(3))), [1, 2, 3], "open then");
    assert_eq!(find(any(), When::At(NOW.plus(900))), [0; 0], "expired by then");
    assert_eq!(find(any(), When::Since(NOW.plus(8))), [9, 8]);
    assert_eq!(find(any(), When::Alive { now, until: Some(NOW.plus(899)) }), [0; 0], "ending later");
}

pub(super) fn denials_stay_as_long_as_the_longest_and_persons_as_long_as_their_lease(place: &dyn Place) {
    let (mut engine, mut chain) = place.engine().unwrap();
    let denial = |value: &str, before, until| {
        let (backend, scope) = ("aws".to_owned(), DenialScope::Role);
        Denial { backend, scope, value: value.to_owned(), before: UnixSeconds(before), until }
    };
    let deny = |number, denial| refuse(number, vec![], vec![Change::Deny(denial)]);
    let far = NOW.plus(1_000);
    let batch = [
        deny(1, denial("a", 5, far)),
        deny(2, denial("a", 9, NOW.plus(10))),
        deny(3, denial("b", 1, NOW.plus(10))),
        grant(4, spend(4, Issued)),
        in_family(
            grant(3, spend(3, Issued)),
            3,
            Some(Change::OpenFamily(Family { expires: NOW.plus(5_000), ..family(3) })),
        ),
    ];
    engine.apply(&batch, &mut chain).unwrap();
    let reader = place.reader();
    let told = |now| reader.denials("aws", now).unwrap();
    assert_eq!(told(NOW), [denial("a", 9, far), denial("b", 1, NOW.plus(10))], "the later times of both");
    assert_eq!(told(NOW.plus(10)), [denial("a", 9, far)]);
    assert!(reader.denials("other", NOW).unwrap().is_empty());
    let persons = || {
        let leases = reader.leases(&LeaseOrder::Youngest { below: LeaseId(9), of: None }, 9).unwrap();
        leases.into_iter().map(|lease| lease.person).collect::<Vec<_>>()
    };
    let somebody = Some([5; 32]);
    engine.sweep(NOW.plus(10)).unwrap();
    assert_eq!((told(NOW).len(), persons()), (1, vec![somebody, somebody]));
    engine.sweep(NOW.plus(900)).unwrap();
    assert_eq!(persons(), [None, somebody], "one lease is over, the other can be renewed");
    engine.sweep(NOW.plus(5_000)).unwrap();
    assert_eq!(persons(), [None, None]);
}

pub(super) fn a_refresh_token_has_one_turn(place: &dyn Place) {
    let (mut engine, mut chain) = place.engine().unwrap();
    let (reused, over) = (Outcome::Blocked(Blocked::Reused), Outcome::Blocked(Blocked::FamilyEnded));
    let mut go = |commit| one(engine.as_mut(), &mut chain, commit);
    assert_eq!(go(renew(2, 1, (1, 2), 0)), over, "there is none");
    assert_eq!(go(begin(1, 1)), durable(1));
    assert_eq!(place.reader().family(&[101; 32]).unwrap(), Some(family(1)));
    assert_eq!(place.reader().family(&[102; 32]).unwrap(), None);
    assert_eq!([go(renew(2, 1, (1, 2), 100)), go(renew(3, 1, (2, 3), 200))], [durable(2), durable(3)]);
    assert_eq!(go(renew(9, 1, (1, 9), 200)), reused, "its successor was used");
    assert_eq!(go(renew(4, 1, (2, 4), 230)), durable(4), "an answer was lost");
    for token in [2, 3, 77] {
        assert_eq!(go(renew(9, 1, (token, 9), 231)), reused, "{token}");
    }
    // What another guard blocks takes no turn.
    let mut lost = renew(9, 1, (4, 9), 232);
    lost.guards.push(Guard::LeaseAlive(LeaseId(77)));
    assert_eq!(go(lost), Outcome::Blocked(Blocked::LeaseEnded));
    assert_eq!([go(renew(5, 1, (4, 5), 899)), go(renew(9, 1, (5, 9), 900))], [durable(5), over], "the session is over");
    drop(engine);
    let (mut engine, mut chain) = place.engine().unwrap();
    let turns = place.reader().family(&[101; 32]).unwrap().unwrap().turns;
    assert_eq!((turns.current, turns.previous, turns.since), ([5; 32], Some([4; 32]), NOW.plus(899)));
    let both = [renew(6, 1, (5, 6), 899), renew(7, 1, (6, 7), 899), renew(9, 1, (5, 9), 899)];
    let outcomes = engine.apply(&both, &mut chain).unwrap();
    assert_eq!(outcomes, [durable(1), durable(2), reused], "within one batch, too");
    verified(place, 7);
}

pub(super) fn a_family_ends_with_its_leases(place: &dyn Place) {
    let (mut engine, mut chain) = place.engine().unwrap();
    let over = Outcome::Blocked(Blocked::FamilyEnded);
    let outcomes =
        [begin(1, 1), begin(2, 2), renew(3, 1, (1, 2), 10), renew(4, 1, (2, 3), 20), end(3), settle(4, Unknown)];
    assert_eq!(engine.apply(&outcomes, &mut chain).unwrap(), [1, 2, 3, 4, 5, 6].map(durable));
    let alive = |family| {
        let mut alive: Vec<_> = place.reader().leases_of(LeaseId(family)).unwrap();
        alive.sort_by_key(|lease| lease.id);
        alive.into_iter().map(|lease| (lease.id.0, lease.state)).collect::<Vec<_>>()
    };
    assert_eq!((alive(1), alive(2)), (vec![(1, Issued), (4, Unknown)], vec![(2, Issued)]));
    let renewable = |after, seconds, most| {
        let began = place.reader().renewable(LeaseId(after), NOW.plus(seconds), most).unwrap();
        began.into_iter().map(|lease| (lease.id.0, lease.family)).collect::<Vec<_>>()
    };
    let [first, second] = [1, 2].map(|id| (id, Some(LeaseId(id))));
    assert_eq!((renewable(0, 899, 9), renewable(0, 900, 9)), (vec![first, second], vec![]));
    assert_eq!((renewable(0, 0, 1), renewable(1, 0, 1)), (vec![first], vec![second]));
    // One that is opened in the batch that ends the family ends with it; a settlement that comes after is too late.
    let batch = [renew(5, 1, (3, 4), 30), end_family(1), end_family(1), settle(5, Issued), renew(9, 1, (4, 9), 30)];
    let late = Outcome::Blocked(Blocked::LeaseEnded);
    assert_eq!(engine.apply(&batch, &mut chain).unwrap(), [durable(7), durable(8), over.clone(), late, over.clone()]);
    assert_eq!((alive(1), alive(2), renewable(0, 0, 9)), (vec![], vec![(2, Issued)], vec![second]));
    assert_eq!(one(engine.as_mut(), &mut chain, end_family(77)), over, "an unknown one");
    let reused = Commit {
        entry: Some(entry(8, What::Reused { family: LeaseId(2), reason: Reason::RefreshReused, role: None })),
        ..end_family(2)
    };
    assert_eq!(one(engine.as_mut(), &mut chain, reused), durable(9));
    assert_eq!(alive(2), []);
    assert_eq!(verified(place, 9).leases, 5);
}

pub(super) fn a_lease_ends_with_all_that_came_of_it(place: &dyn Place) {
    let (mut engine, mut chain) = place.engine().unwrap();
    let [over, moved] = [Blocked::ParentEnded, Blocked::Moved].map(Outcome::Blocked);
    // 1 → 2 → 4, 1 → 3; 5 is nobody's. One is still being minted, and one was surely not.
    let opened = [
        grant(1, spend(1, Issued)),
        child(2, spend(2, Issued), 1),
        child(3, spend(3, Issuing), 1),
        child(4, spend(4, Issued), 2),
        grant(5, spend(5, Issued)),
        child(6, spend(6, Issuing), 1),
        settle(6, Failed),
    ];
    assert_eq!(engine.apply(&opened, &mut chain).unwrap(), [1, 2, 3, 4, 5, 6, 7].map(durable));
    let children = |of| {
        let children = place.reader().children(LeaseId(of)).unwrap();
        children.into_iter().map(|lease| (lease.id.0, lease.parent.map(|parent| parent.0))).collect::<Vec<_>>()
    };
    assert_eq!(children(1), [(2, Some(1)), (3, Some(1)), (4, Some(2))]);
    assert_eq!((children(2), children(5)), (vec![(4, Some(2))], vec![]));
    // Under one that is not issued, has expired, or is not there.
    for (parent, at) in [(3, NOW), (6, NOW), (1, NOW.plus(900)), (77, NOW)] {
        let guard = Guard::Parent { lease: LeaseId(parent), at };
        assert_eq!(one(engine.as_mut(), &mut chain, refuse(90, vec![guard], vec![])), over, "{parent}");
    }
    // Whoever saw fewer looks again; so does who saw more.
    for seen in [0, 2, 4] {
        assert_eq!(one(engine.as_mut(), &mut chain, end_with(1, seen)), moved, "{seen}");
    }
    assert_eq!(children(1).len(), 3, "and nothing was ended");
    // In one batch: what was opened before the end ends with it, and after it nothing is.
    let batch = [child(7, spend(7, Issued), 4), end_with(1, 4), child(8, spend(8, Issued), 2), settle(3, Issued)];
    let late = Outcome::Blocked(Blocked::LeaseEnded);
    assert_eq!(engine.apply(&batch, &mut chain).unwrap(), [durable(8), durable(9), over.clone(), late.clone()]);
    assert_eq!(children(1), []);
    let states = [1, 2, 3, 4, 5, 6, 7].map(|id| place.reader().lease(LeaseId(id)).unwrap().unwrap().state);
    assert_eq!(states, [Ended, Ended, Ended, Ended, Issued, Failed, Ended]);
    assert_eq!(one(engine.as_mut(), &mut chain, grant(9, spend(3, Issued))), Outcome::Blocked(Blocked::Replay));
    assert_eq!(one(engine.as_mut(), &mut chain, end(4)), late);
    // A family's leases end with what came of them, too.
    let family = [begin(20, 20), child(21, spend(21, Issued), 20), child(22, spend(22, Issued), 21), end_family(20)];
    assert_eq!(engine.apply(&family, &mut chain).unwrap(), [10, 11, 12, 13].map(durable));
    assert_eq!(children(20), []);
    verified(place, 13);
}

pub(super) fn leases_are_found_by_who_acts(place: &dyn Place) {
    use crate::store::leases::{LeaseFilter, When, page};
    let (mut engine, mut chain) = place.engine().unwrap();
    let acting = Acting {
        issuer: "cluster".into(),
        id: "uid-7".into(),
        name: "agents/bot".into(),
        repository_id: Some("uid-7".into()),
        owner_id: None,
        run_id: Some("r7".into()),
    };
    let mut acted = grant(2, spend(2, Issued));
    let Some(Change::OpenLease(lease)) = acted.changes.first_mut() else { unreachable!("a grant opens a lease") };
    (lease.acting, lease.acting_person) = (Some(acting.clone()), Some(subject_key(Scope::Person, "cluster", "p7")));
    (lease.handoff, lease.expires) = (true, NOW.plus(900));
    assert_eq!(engine.apply(&[grant(1, spend(1, Issued)), acted], &mut chain).unwrap(), [1, 2].map(durable));
    let found = |filter: &LeaseFilter, when| {
        let found = page(place.reader().as_ref(), filter, when, None, 9).unwrap().leases;
        found.into_iter().map(|lease| lease.id.0).collect::<Vec<_>>()
    };
    let text = |text: &str| Some(text.to_owned());
    let (alive, since) = (When::Alive { now: NOW, until: None }, When::Since(UnixSeconds(0)));
    let cluster = || LeaseFilter { issuer: text("cluster"), ..LeaseFilter::default() };
    for (filter, expected) in [
        (cluster(), vec![2]),
        (LeaseFilter { repository: text("uid-7"), ..cluster() }, vec![2]),
        (LeaseFilter { repository: text("agents/bot"), ..LeaseFilter::default() }, vec![2]),
        (LeaseFilter { run: text("r7"), ..LeaseFilter::default() }, vec![2]),
        (LeaseFilter { person: text("p7"), ..cluster() }, vec![2]),
        (LeaseFilter { actor: text("cluster:uid-7"), ..LeaseFilter::default() }, vec![2]),
        (LeaseFilter { actor: text("github:uid-7"), ..LeaseFilter::default() }, vec![]),
        // Of one of the two, never of both together.
        (LeaseFilter { repository: text("42"), ..cluster() }, vec![]),
        (LeaseFilter { principal: text("uid-7"), ..LeaseFilter::default() }, vec![]),
    ] {
        assert_eq!((found(&filter, alive), found(&filter, since)), (expected.clone(), expected), "{filter:?}");
    }
    assert_eq!(found(&LeaseFilter { repository: text("42"), ..LeaseFilter::default() }, since), [2, 1]);
    let listed = page(place.reader().as_ref(), &cluster(), alive, None, 9).unwrap().leases.remove(0);
    assert_eq!((listed.acting, listed.handoff, listed.parent), (Some(acting), true, None));
    engine.sweep(NOW.plus(900)).unwrap();
    assert_eq!(found(&LeaseFilter { person: text("p7"), ..cluster() }, since), [0; 0], "forgotten when it is over");
}

pub(super) fn a_turn_is_given_back(place: &dyn Place) {
    let (mut engine, mut chain) = place.engine().unwrap();
    let mut go = |commit| one(engine.as_mut(), &mut chain, commit);
    let back = |token, next| refuse(50, vec![], vec![Change::GiveTurnBack(turn(1, (token, next), 10))]);
    assert_eq!(go(back(1, 2)), durable(1), "of no family: nothing");
    assert_eq!([go(begin(1, 1)), go(renew(2, 1, (1, 2), 10)), go(back(1, 2))], [durable(2), durable(3), durable(4)]);
    assert_eq!(go(renew(9, 1, (2, 9), 500)), Outcome::Blocked(Blocked::Reused), "nobody was given it");
    assert_eq!([go(renew(3, 1, (1, 3), 500)), go(renew(4, 1, (3, 4), 510))], [durable(5), durable(6)]);
    assert_eq!([go(back(1, 3)), go(renew(5, 1, (4, 5), 510))], [durable(7), durable(8)], "what it gave was used");
    verified(place, 8);
}

pub(super) fn a_status_list_shows_what_was_ended(place: &dyn Place) {
    let (mut engine, mut chain) = place.engine().unwrap();
    let listed = |number: u8, list: u128, index: u16| {
        let mut commit = grant(number.into(), spend(number, Issued));
        let Some(Change::OpenLease(lease)) = commit.changes.first_mut() else { unreachable!("a grant opens a lease") };
        lease.status = Some(crate::store::Place { list, index });
        commit.changes.push(Change::KeepList { list, until: NOW.plus(1_000) });
        commit
    };
    let ended = |list| place.reader().ended_in(list).unwrap();
    let batch = [listed(1, 7, 65_535), listed(2, 7, 3), listed(3, 7, 9), listed(4, 8, 3), end(1), end(2)];
    assert_eq!(engine.apply(&batch, &mut chain).unwrap(), [1, 2, 3, 4, 5, 6].map(durable));
    assert_eq!([ended(7), ended(8), ended(9)], [Some(vec![3, 65_535]), Some(vec![]), None]);
    // Kept once, as long as it was first said.
    let again = refuse(5, vec![], vec![Change::KeepList { list: 7, until: NOW.plus(9_000) }]);
    assert_eq!(one(engine.as_mut(), &mut chain, again), durable(7));
    let mut lost = listed(5, 10, 1);
    lost.guards.push(Guard::LeaseAlive(LeaseId(77)));
    assert_eq!(one(engine.as_mut(), &mut chain, lost), Outcome::Blocked(Blocked::LeaseEnded));
    assert_eq!(ended(10), None);
    engine.sweep(NOW.plus(1_000)).unwrap();
    assert_eq!(ended(8), Some(vec![]));
    engine.sweep(NOW.plus(1_001)).unwrap();
    assert_eq!([ended(7), ended(8)], [None, None]);
    verified(place, 7);
}
