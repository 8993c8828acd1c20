//! What is old goes, and the rest verifies.

use super::*;
use crate::store::forget::{self, Forget, Forgotten, Part};

const LATER: UnixSeconds = UnixSeconds(NOW.0 + 30 * 86_400);

fn told(what: What<'_>) -> Commit {
    let record = Record { decision: None, at: LATER, what, principal: None, actor: None, mappings_version: None };
    Commit { guards: vec![], changes: vec![], entry: Some(record.seal(&Details::default(), [0; 32])) }
}

fn faults(place: &dyn Place) -> Option<String> {
    audit(&*place.reader(), []).unwrap().finding.map(|finding| finding.to_string())
}

pub(in crate::store) fn what_is_old_goes_and_the_rest_verifies(place: &dyn Place) {
    let (mut engine, mut chain) = place.engine().unwrap();
    let reader = place.reader();
    let old = [
        grant(1, spend(1, LeaseState::Issued)),
        suspend(2, 2, None, None),
        suspend(3, 3, None, None),
        resume(3, 3),
        refuse(4, vec![], vec![]),
        grant(5, spend(5, LeaseState::Issuing)),
        settle(5, LeaseState::Issued),
    ];
    for commit in old {
        assert!(matches!(one(&mut *engine, &mut chain, commit), Outcome::Durable { .. }));
    }
    let positions: Vec<i64> = reader.before(None, 10).unwrap().iter().rev().map(|stored| stored.position).collect();
    one(&mut *engine, &mut chain, told(What::Started { version: "1" }));

    // What is younger stays, and a day's worth goes at once.
    let through = |part, before, least| forget::through(&*reader, part, before, least).unwrap();
    assert_eq!(through(Part::Details, NOW, 0), None);
    assert_eq!(through(Part::Details, LATER, 0), positions.last().copied());
    assert_eq!(through(Part::Details, NOW.plus(1), 86_400), None);
    assert_eq!(through(Part::Details, NOW.plus(86_401), 86_400), positions.last().copied());

    // Details of jobs' records, and not those of operators' deeds.
    let step = |part, from, through| forget::step(&*reader, part, from, through, LATER).unwrap();
    let last = positions[6];
    let first = step(Part::Details, Forgotten::default(), last).unwrap();
    assert_eq!(first.details, [positions[0], positions[4], positions[5], positions[6]]);
    assert_eq!((first.records.len(), first.reached), (0, Forgotten { details: last, records: 0 }));
    assert_eq!(step(Part::Details, first.reached, last), None);
    engine.forget(&first).unwrap();
    engine.forget(&first).unwrap();
    assert_eq!(reader.forgotten().unwrap(), first.reached);
    assert_eq!(through(Part::Details, LATER, 0), None);
    assert_eq!((faults(place), audit(&*reader, []).unwrap().chain.erased()), (None, 4));

    // Whole records of jobs with their leases, up to the grant whose outcome came later; the details of deeds but for
    // what stands.
    let cut = positions[5];
    let second = step(Part::Records, Forgotten::default(), cut).unwrap();
    assert_eq!(second.records, [positions[0], positions[4], positions[5]]);
    assert_eq!((&second.details[..], &second.leases[..]), (&positions[2..4], &[LeaseId(1), LeaseId(5)][..]));
    engine.forget(&second).unwrap();
    assert_eq!(reader.forgotten().unwrap(), Forgotten { details: last, records: cut });
    let fault = faults(place).unwrap();
    assert!(fault.contains("it was emptied, and no later record says that it was to be"), "{fault}");
    one(&mut *engine, &mut chain, told(What::RecordsPruned { through: cut, before: LATER }));
    assert_eq!(faults(place), None);
    let report = audit(&*reader, []).unwrap();
    assert_eq!((report.chain.records(), report.chain.emptied(), report.leases), (9, 3, 0));
    assert_eq!(reader.decision(decision(4)).unwrap().len(), 0);
    let left: Vec<i64> = reader.before(None, 10).unwrap().iter().rev().map(|stored| stored.position).collect();
    assert_eq!(&left[..4], [positions[1], positions[2], positions[3], positions[6]]);

    // One more than was told.
    engine.forget(&Forget { records: vec![last], ..Forget::default() }).unwrap();
    let fault = faults(place).unwrap();
    assert!(fault.starts_with(&format!("record {last} ")) && fault.contains("it was emptied"), "{fault}");
}

pub(in crate::store) fn a_lease_that_lives_keeps_its_record(place: &dyn Place) {
    let (mut engine, mut chain) = place.engine().unwrap();
    one(&mut *engine, &mut chain, grant(1, spend(1, LeaseState::Issued)));
    let reader = place.reader();
    let step = forget::step(&*reader, Part::Records, Forgotten::default(), i64::MAX, NOW).unwrap().unwrap();
    assert_eq!((step.records.len(), step.leases.len(), step.details.len()), (0, 0, 0));
}
