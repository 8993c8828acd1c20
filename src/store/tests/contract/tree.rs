//! What is promised of the tree, and of stores that were adopted.

use super::*;
use crate::store::tree::{Growth, Stand, behind, grow, index_of, lost, proof};
use claimbound_core::evidence::{
    Checkpoint,
    tree::{TILE, Tree, consistency, consistent, included, inclusion},
};

pub(in crate::store::tests) fn a_tree_grows_and_proves_in_stored_order(place: &dyn Place) {
    let (engine, mut chain) = place.engine().unwrap();
    let (engine, reader) = (std::cell::RefCell::new(engine), place.reader());
    assert!(matches!(grow(&*reader, reader.settled().unwrap()).unwrap(), Growth { stand: None, more: false, .. }));
    let mut fill = |from: u128, to: u128| {
        let batch: Vec<Commit> = (from..to).map(|number| refuse(number, vec![], vec![])).collect();
        engine.borrow_mut().apply(&batch, &mut chain).unwrap();
    };
    let mut stands = Vec::new();
    for (from, to, nodes) in [(0, 200, 0), (200, 512, 2), (512, 5_000, 17), (5_000, 5_001, 0)] {
        fill(from, to);
        let upto = reader.settled().unwrap();
        let growth = grow(&*reader, upto).unwrap();
        assert_eq!(growth.nodes.len(), nodes, "up to {to}");
        let rows = TreeRows { nodes: growth.nodes, checkpoint: None };
        engine.borrow_mut().keep_tree(&rows).unwrap();
        let again = grow(&*reader, upto).unwrap();
        assert!(again.nodes.is_empty() && again.stand == growth.stand, "kept is kept");
        stands.push(again.stand.unwrap());
    }
    let mut leaves = Vec::new();
    reader
        .records_after(0, &mut |stored| {
            leaves.push((stored.position, stored.leaf));
            true
        })
        .unwrap();
    let (mut tree, mut at) = (Tree::default(), 0);
    for stand in &stands {
        for (_, leaf) in &leaves[at..stand.size as usize] {
            tree.append(*leaf, |_, _, _| {});
        }
        at = stand.size as usize;
        assert_eq!((tree.size(), tree.root()), (stand.size, stand.root));
        assert_eq!(stand.last.0, leaves[at - 1].0);
        assert_eq!(reader.count_after(stand.last.0).unwrap(), 5_001 - stand.size);
    }
    let newest = stands.last().unwrap();
    for index in [0, 255, 256, 4_863, 5_000] {
        let (position, leaf) = leaves[index as usize];
        assert_eq!(index_of(&*reader, position).unwrap(), index);
        let proof = proof(&*reader, inclusion(index, newest.size)).unwrap();
        assert_eq!(included(&leaf, index, newest.size, &proof), Some(newest.root), "{index}");
    }
    for old in &stands {
        let proof = proof(&*reader, consistency(old.size, newest.size)).unwrap();
        assert!(consistent((old.size, &old.root), (newest.size, &newest.root), &proof));
    }
    assert_eq!(reader.grown().unwrap().unwrap().number, 5_000 / TILE - 1);

    // The largest checkpoint of an epoch stays; the store is behind none that it holds, and behind any other.
    let keep = |size: u64, note: &str| {
        let rows = TreeRows { nodes: vec![], checkpoint: Some((1, size, note.to_owned())) };
        engine.borrow_mut().keep_tree(&rows).unwrap();
        reader.checkpoint().unwrap().unwrap()
    };
    assert_eq!([keep(5, "five"), keep(9, "nine"), keep(7, "seven")], ["five", "nine", "nine"]);
    let epoch = reader.epochs().unwrap().remove(0);
    assert_eq!((epoch.number, epoch.began, epoch.instead_of), (1, UnixSeconds(0), None));
    let (origin, at) = (String::new(), NOW);
    let of = |stand: &Stand| Checkpoint {
        origin: origin.clone(),
        size: stand.size,
        root: stand.root,
        epoch: 1,
        store: epoch.id,
        at,
        last: stand.last,
    };
    for stand in &stands {
        assert_eq!(behind(&*reader, &of(stand)).unwrap(), None);
    }
    let root = Checkpoint { root: [0; 32], ..of(newest) };
    assert!(lost(&*reader, &root).unwrap().is_none() && behind(&*reader, &root).unwrap().is_some());
    for (what, other) in [
        ("another link", Checkpoint { last: (newest.last.0, [0; 32]), ..of(newest) }),
        ("more records", Checkpoint { last: (newest.last.0 + 1, newest.last.1), size: 5_002, ..of(newest) }),
        ("another database", Checkpoint { store: 7, ..of(newest) }),
    ] {
        assert!(lost(&*reader, &other).unwrap().is_some(), "{what}");
    }
}

pub(in crate::store::tests) fn a_store_that_was_adopted_refuses_older_tokens(place: &dyn Place) {
    let (mut engine, mut chain) = place.engine().unwrap();
    let mut go = |commit| one(engine.as_mut(), &mut chain, commit);
    let at = |number, seconds| grant(u128::from(number), Spend { issued: NOW.plus(seconds), ..spend(number, Issued) });
    let refused = Outcome::Blocked(Blocked::BeforeAdoption);
    assert_eq!(go(at(1, 0)), durable(1));
    assert_eq!(go(adopt(2, NOW)), durable(2));
    assert_eq!(go(at(1, 0)), refused, "not even that it was used is known for sure");
    assert_eq!(go(at(2, 0)), refused);
    assert_eq!(go(at(3, 1)), durable(3));
    drop(engine);
    let (mut engine, mut chain) = place.engine().unwrap();
    let batch = [at(4, 0), at(4, 1), adopt(3, NOW.plus(5))];
    assert_eq!(engine.apply(&batch, &mut chain).unwrap(), [refused.clone(), durable(1), durable(2)]);
    assert_eq!(one(engine.as_mut(), &mut chain, at(5, 5)), refused);
    let epochs: Vec<_> = place.reader().epochs().unwrap().iter().map(|epoch| (epoch.number, epoch.began)).collect();
    assert_eq!(epochs, [(1, UnixSeconds(0)), (2, NOW), (3, NOW.plus(5))]);
    verified(place, 5);
}

/// Turns that refresh tokens had, and sessions that were signed out of.
pub(in crate::store::tests) fn what_may_have_been_forgotten_ends_with_an_adoption(place: &dyn Place) {
    let (mut engine, mut chain) = place.engine().unwrap();
    let mut go = |commit| one(engine.as_mut(), &mut chain, commit);
    let over = Outcome::Blocked(Blocked::FamilyEnded);
    let session = Session {
        session: [7; 32],
        operator: "okta:ann".into(),
        sign_in: "okta".into(),
        may: "audit".into(),
        binding: [8; 32],
        expires: NOW.plus(900),
        person: None,
    };
    let signed_in = refuse(9, vec![], vec![Change::OpenSession(session)]);
    assert_eq!([go(begin(1, 1)), go(signed_in), go(renew(2, 1, (1, 2), 1))], [1, 2, 3].map(durable));
    assert_eq!(go(adopt(2, NOW)), durable(4));
    assert_eq!(go(renew(3, 1, (2, 3), 2)), over);
    assert!(place.reader().session(&[7; 32]).unwrap().is_none());
    let lease = place.reader().lease(LeaseId(2)).unwrap().unwrap();
    assert_eq!(lease.state, Issuing, "what was issued stays");
    let later = |number: u8| {
        let mut commit = begin(number.into(), number);
        commit.guards = vec![Guard::Unspent(Spend { issued: NOW.plus(number.into()), ..spend(number, Issued) })];
        commit
    };
    assert_eq!([go(later(4)), go(renew(5, 4, (1, 2), 1))], [5, 6].map(durable), "a later one goes on");
    // In one batch, before and after.
    let batch = [later(6), adopt(3, NOW.plus(7)), renew(7, 4, (2, 3), 2), renew(8, 6, (1, 2), 2), later(8)];
    let outcomes = [durable(7), durable(8), over.clone(), over, durable(9)];
    assert_eq!(engine.apply(&batch, &mut chain).unwrap(), outcomes);
    assert_eq!(one(engine.as_mut(), &mut chain, renew(9, 8, (1, 2), 2)), durable(10));
    verified(place, 10);
}
