use super::*;
use proptest::prelude::*;

const NOW: UnixSeconds = UnixSeconds(1_000);
const END: UnixSeconds = UnixSeconds(5_000);

fn person(number: u8) -> Person {
    Person {
        sign_in: "okta".into(),
        subject: format!("u{number}"),
        email: Some(format!("u{number}@acme.example")),
        name: None,
        groups: if number < 100 { vec!["leads".into()] } else { vec!["guests".into()] },
        acr: None,
        amr: vec![],
        auth_time: None,
        forge_ids: BTreeMap::from([("github".to_owned(), number.to_string())]),
    }
}

fn starter(number: u8) -> Starter {
    Starter { issuer: "github".into(), id: Some(number.to_string()), proves_nobody: false }
}

fn terms(quorum: u8) -> Terms {
    let any = vec!["okta:group:leads".parse().unwrap()];
    let approvers = Approvers { any, within: vec![] };
    Terms { standing: false, approvers, quorum, allow_self: false, expires: END }
}

fn claim(number: u8, right: bool, starters: &[Starter]) -> Event<'_> {
    let claim = Claim { by: person(number), at: NOW, reason: "it is mine".into() };
    Event::Claim { claim, code_right: right, starters }
}

fn no(number: u8, starters: &[Starter]) -> Event<'_> {
    Event::Reject { by: person(number), reason: "not now".into(), starters }
}

fn go(state: &State, terms: &Terms, event: Event<'_>) -> Result<State, Refused> {
    step(state, terms, event, NOW).map(|step| step.next)
}

#[test]
fn the_moves() {
    let (terms, by_one) = (terms(2), [starter(1)]);
    let opened = State::opened();
    let first = go(&opened, &terms, claim(2, true, &by_one)).unwrap();
    assert_eq!(first.name(), "pending");
    assert_eq!(go(&first, &terms, claim(2, true, &by_one)), Err(Refused::AlreadyClaimed));
    assert_eq!(go(&first, &terms, claim(1, true, &by_one)), Err(Refused::SelfApproval));
    assert_eq!(go(&first, &terms, claim(101, true, &by_one)), Err(Refused::NotEligible));
    assert_eq!(go(&first, &terms, Event::Consume), Err(Refused::NotNow));
    let claimed = go(&first, &terms, claim(3, true, &by_one)).unwrap();
    assert_eq!((claimed.name(), claimed.claims().len()), ("claimed", 2));
    assert_eq!(go(&claimed, &terms, claim(4, true, &by_one)), Err(Refused::NotNow));
    let consumed = go(&claimed, &terms, Event::Consume).unwrap();
    for event in [Event::Consume, Event::Withdraw, Event::Tick, no(2, &by_one)] {
        assert_eq!(go(&consumed, &terms, event), Err(Refused::NotNow));
    }
    for open in [&opened, &claimed] {
        assert_eq!(go(open, &terms, Event::Withdraw), Ok(State::Withdrawn));
        let rejected = go(open, &terms, no(2, &by_one)).unwrap();
        assert_eq!(rejected, State::Rejected { by: Some(person(2)), reason: Some("not now".into()) });
        let own = go(open, &terms, no(1, &by_one));
        assert!(own.is_ok(), "who started it may stop it");
        assert_eq!(go(open, &terms, no(101, &by_one)), Err(Refused::NotEligible));
        assert_eq!(step(open, &terms, Event::Consume, END).map(|step| step.next), Ok(State::Expired));
        assert_eq!(step(open, &terms, claim(4, true, &by_one), END).map(|step| step.next), Ok(State::Expired));
    }
}

#[test]
fn a_lease_that_came_to_nothing_gives_it_back_twice() {
    let terms = terms(1);
    let mut state = go(&State::opened(), &terms, claim(2, true, &[])).unwrap();
    for _ in 0..REDEEMED_AGAIN_MAX {
        state = go(&go(&state, &terms, Event::Consume).unwrap(), &terms, Event::GiveBack).unwrap();
        assert_eq!(state.name(), "claimed");
    }
    let consumed = go(&state, &terms, Event::Consume).unwrap();
    assert_eq!(go(&consumed, &terms, Event::GiveBack), Err(Refused::NotNow));
}

#[test]
fn five_wrong_codes_a_person_fifteen_for_all_and_only_of_people_who_may() {
    let terms = terms(1);
    let mut state = State::opened();
    for round in 0..WRONG_CODES_OF_PERSON_MAX {
        let step = step(&state, &terms, claim(2, false, &[]), NOW).unwrap();
        assert!(step.wrong_code, "{round}");
        state = step.next;
    }
    assert_eq!(go(&state, &terms, claim(2, true, &[])), Err(Refused::NoTriesLeft), "the right one, too late");
    for _ in 0..20 {
        assert_eq!(go(&state, &terms, claim(101, false, &[])), Err(Refused::NotEligible));
        assert_eq!(go(&state, &terms, claim(1, false, &[starter(1)])), Err(Refused::SelfApproval));
    }
    for number in [3, 3, 3, 3, 3, 4, 4, 4, 4] {
        state = go(&state, &terms, claim(number, false, &[])).unwrap();
        assert_eq!(state.name(), "pending");
    }
    assert_eq!(go(&state, &terms, claim(5, true, &[])).unwrap().name(), "claimed", "somebody else still may");
    assert_eq!(go(&state, &terms, claim(4, false, &[])), Ok(State::Rejected { by: None, reason: None }));
}

#[test]
fn a_run_that_proves_no_second_person_needs_one_approver_more() {
    let again = [Starter { proves_nobody: true, ..starter(1) }];
    let nobody = [Starter { issuer: "github".into(), id: None, proves_nobody: true }];
    for starters in [&again, &nobody] {
        let first = go(&State::opened(), &terms(1), claim(2, true, starters)).unwrap();
        assert_eq!(first.name(), "pending");
        assert_eq!(go(&first, &terms(1), claim(3, true, starters)).unwrap().name(), "claimed");
    }
    assert_eq!(go(&State::opened(), &terms(1), claim(1, true, &again)), Err(Refused::SelfApproval));
    let shop = Terms { allow_self: true, ..terms(1) };
    assert_eq!(go(&State::opened(), &shop, claim(1, true, &again)).unwrap().name(), "claimed");
}

#[test]
fn who_is_not_linked_is_refused_where_it_matters() {
    let unlinked = |event: Event<'static>| match event {
        Event::Claim { mut claim, code_right, starters } => {
            claim.by.forge_ids.clear();
            Event::Claim { claim, code_right, starters }
        }
        other => other,
    };
    let by_one: &'static [Starter] = Box::leak(Box::new([starter(1)]));
    assert_eq!(go(&State::opened(), &terms(1), unlinked(claim(2, true, by_one))), Err(Refused::Unlinked));
    assert!(go(&State::opened(), &Terms { allow_self: true, ..terms(1) }, unlinked(claim(2, true, by_one))).is_ok());
    let bot: &'static [Starter] = Box::leak(Box::new([Starter { proves_nobody: true, ..starter(1) }]));
    assert!(go(&State::opened(), &terms(1), unlinked(claim(2, true, bot))).is_ok());
}

#[test]
fn a_job_that_joins_takes_its_starters_claim_away() {
    let before = [starter(1)];
    let first = go(&State::opened(), &terms(2), claim(2, true, &before)).unwrap();
    let joined = [starter(1), starter(2)];
    let second = go(&first, &terms(2), claim(3, true, &joined)).unwrap();
    assert_eq!(second.name(), "pending", "one of the two started a job");
    assert_eq!(go(&second, &terms(2), claim(4, true, &joined)).unwrap().name(), "claimed");
}

#[test]
fn a_standing_claim_is_final() {
    let terms = Terms { standing: true, ..terms(1) };
    let claimed = go(&State::opened(), &terms, claim(2, true, &[])).unwrap();
    for event in [Event::Consume, Event::Withdraw, Event::Tick, no(3, &[])] {
        assert_eq!(step(&claimed, &terms, event, END), Err(Refused::NotNow));
    }
}

#[test]
fn people_are_told_apart_by_id_and_by_account() {
    let (ada, bob) = (person(1), person(2));
    assert!(!ada.is(&bob));
    let second_account = Person { subject: "other".into(), ..ada.clone() };
    assert!(ada.is(&second_account) && second_account.is(&ada), "one account at the forge");
    let elsewhere = Person { sign_in: "entra".into(), forge_ids: BTreeMap::new(), email: None, ..ada.clone() };
    assert!(!ada.is(&elsewhere), "another provider's ids are its own");
    let address = Person { subject: "7".into(), email: Some("U1@Acme.example".into()), ..elsewhere.clone() };
    assert!(ada.is(&address) && !bob.is(&address) && !address.is(&elsewhere), "one verified address");
    let floor = Approvers {
        any: vec!["okta:group:leads".parse().unwrap()],
        within: vec!["okta:email:U2@acme.example".parse().unwrap()],
    };
    assert!(floor.admit(&bob) && !floor.admit(&ada));
    for bad in ["okta", "okta:group", "Okta:group:x", ":group:x", "okta:groups:x", "okta:group:", "okta:sub: x"] {
        assert!(bad.parse::<Approver>().is_err(), "{bad}");
    }
    assert_eq!("okta:sub:a:b".parse::<Approver>().unwrap().value, "a:b");
}

fn events() -> impl Strategy<Value = Vec<(u8, u8, bool, i64)>> {
    prop::collection::vec((0u8..6, 0u8..8, prop::bool::weighted(0.7), 0i64..60), 0..40)
}

proptest! {
    /// Whatever happens, in whatever order: once it is over it stays as it is, it is claimed by a quorum of distinct people
    /// none of whom started it, and nothing is claimed or consumed past its end.
    #[test]
    fn one_outcome(quorum in 1u8..4, starting in prop::collection::vec(0u8..8, 0..3), events in events()) {
        let terms = terms(quorum);
        let starters: Vec<Starter> = starting.iter().map(|number| starter(*number)).collect();
        let (mut state, mut now, mut consumed) = (State::opened(), NOW, 0);
        for (kind, who, right, passes) in events {
            now = now.plus(passes * 10);
            let event = match kind {
                0..=2 => claim(who, right, &starters),
                3 => no(who, &starters),
                4 => Event::Consume,
                _ => Event::Withdraw,
            };
            let was = state.clone();
            match step(&state, &terms, event, now) {
                Ok(step) => state = step.next,
                Err(_) => continue,
            }
            prop_assert!(was.is_open(false), "{} → {}", was.name(), state.name());
            if now >= END {
                prop_assert_eq!(&state, &State::Expired);
            }
            if state.name() == "claimed" {
                let people: std::collections::BTreeSet<_> = state.claims().iter().map(|one| &one.by.subject).collect();
                prop_assert_eq!(people.len(), state.claims().len());
                prop_assert!(people.len() >= usize::from(quorum));
                let started = |one: &Claim| starting.iter().any(|number| one.by.is(&person(*number)));
                prop_assert!(!state.claims().iter().any(started));
            }
            if state.name() == "consumed" {
                prop_assert_eq!(was.name(), "claimed");
                consumed += 1;
            }
        }
        prop_assert!(consumed <= 1);
    }
}
