//! Random batches: the engine answers as a model of a few lines does, and the store always verifies.

use super::*;
use crate::store::commit::RETRIES_MAX;
use proptest::prelude::*;
use std::collections::HashMap;

#[derive(Clone, Debug)]
enum Step {
    Grant {
        token: u8,
        request: u8,
        issuing: bool,
        may_retry: bool,
        also_alive: Option<u8>,
        within: Option<u8>,
        of: u8,
    },
    Adopt,
    Refuse {
        token: u8,
        recorded: bool,
    },
    Suspend {
        of: u8,
        replaces: Option<u8>,
    },
    Resume {
        of: u8,
        number: u8,
    },
    GiveBack {
        counter: u8,
    },
    Settle {
        lease: u8,
        from: LeaseState,
        state: LeaseState,
    },
    End {
        lease: u8,
    },
    Alive {
        lease: u8,
    },
    /// A lease of its own that begins a family, whose refresh tokens are the numbers from 0.
    Begin {
        token: u8,
    },
    /// The family that is the `of`th to have begun.
    Renew {
        of: u8,
        is: u8,
        next: u8,
        after: u8,
        also_alive: Option<u8>,
    },
    GiveTurnBack {
        of: u8,
        is: u8,
        next: u8,
    },
    EndFamily {
        of: u8,
    },
}

#[derive(Default)]
struct Model {
    spent: HashMap<u8, (LeaseState, u8, u32)>,
    /// State, and the token that it cost.
    leases: HashMap<u8, (LeaseState, Option<u8>)>,
    uses: HashMap<u8, u32>,
    suspended: HashMap<u8, u8>,
    /// In order: the lease that began it, whose turn it is, who had it last and when, whether it ended.
    families: Vec<(u8, u8, Option<u8>, u8, bool)>,
    /// Family of a lease.
    members: HashMap<u8, u8>,
    records: u64,
    epochs: u64,
}

impl Model {
    fn alive(&self, lease: u8) -> bool {
        use LeaseState::*;
        matches!(self.leases.get(&lease), Some((Issuing | Issued | Unknown, _)))
    }

    fn end(&mut self, lease: u8) {
        let (now, token) = self.leases.get_mut(&lease).unwrap();
        if let Some(spent) = token.and_then(|token| self.spent.get_mut(&token))
            && spent.0 == LeaseState::Issuing
        {
            spent.0 = LeaseState::Ended;
        }
        *now = LeaseState::Ended;
    }

    fn family(&self, of: u8) -> Option<usize> {
        (usize::from(of) < self.families.len()).then_some(usize::from(of))
    }

    fn spend(&mut self, token: u8, request: u8, leaves: LeaseState, may_retry: bool) -> Option<Blocked> {
        // The first token is of the time before any adoption.
        if self.epochs > 0 && token == 0 {
            return Some(Blocked::BeforeAdoption);
        }
        let attempts = match self.spent.get(&token) {
            None => 0,
            Some((LeaseState::Issuing, ..)) => return Some(Blocked::InFlight),
            Some((LeaseState::Failed, same, attempts)) if may_retry && *same == request && *attempts < RETRIES_MAX => {
                attempts + 1
            }
            Some(_) => return Some(Blocked::Replay),
        };
        self.spent.insert(token, (leaves, request, attempts));
        None
    }

    fn step(&mut self, number: u8, step: &Step) -> Option<Blocked> {
        let ended = Some(Blocked::LeaseEnded);
        match *step {
            Step::Grant { token, request, issuing, may_retry, also_alive, within, of } => {
                let leaves = if issuing { LeaseState::Issuing } else { LeaseState::Issued };
                let before = self.spent.get(&token).copied();
                if let Some(blocked) = self.spend(token, request, leaves, may_retry) {
                    return Some(blocked);
                }
                let used = within.map_or(0, |counter| self.uses.get(&counter).copied().unwrap_or(0));
                let exhausted = (used == 2).then_some(Blocked::Exhausted { until: NOW.plus(3_600) });
                let dead = also_alive.is_some_and(|lease| !self.alive(lease));
                let by = self.suspended.get(&of).map(|by| Blocked::Suspended(SuspensionId((*by).into())));
                if let Some(blocked) = by.or(exhausted).or(ended.filter(|_| dead)) {
                    match before {
                        Some(before) => self.spent.insert(token, before),
                        None => self.spent.remove(&token),
                    };
                    return Some(blocked);
                }
                if let Some(counter) = within {
                    self.uses.insert(counter, used + 1);
                }
                self.leases.insert(number, (leaves, Some(token)));
                None
            }
            Step::Refuse { token, .. } => self.spend(token, 1, LeaseState::Issued, false),
            Step::Adopt => {
                self.epochs += 1;
                self.families.iter_mut().for_each(|family| family.4 = true);
                None
            }
            Step::Suspend { of, replaces } if self.suspended.get(&of).copied() == replaces => {
                self.suspended.insert(of, number);
                None
            }
            Step::Resume { of, number } if self.suspended.get(&of) == Some(&number) => {
                self.suspended.remove(&of);
                None
            }
            Step::Suspend { .. } | Step::Resume { .. } => Some(Blocked::Moved),
            Step::GiveBack { counter } => {
                self.uses.entry(counter).and_modify(|used| *used = used.saturating_sub(1));
                None
            }
            Step::Settle { lease, from, state } => match self.leases.get_mut(&lease) {
                Some((now, token)) if *now == from => {
                    *now = state;
                    if let Some(token) = token {
                        self.spent.get_mut(token).unwrap().0 = state;
                    }
                    None
                }
                _ => ended,
            },
            Step::End { lease } if self.alive(lease) => {
                self.end(lease);
                None
            }
            Step::Begin { token } => {
                if let Some(blocked) = self.spend(token, 1, LeaseState::Issued, false) {
                    return Some(blocked);
                }
                self.leases.insert(number, (LeaseState::Issued, Some(token)));
                self.members.insert(number, number);
                self.families.push((number, 0, None, 0, false));
                None
            }
            Step::Renew { of, is, next, after, also_alive } => {
                let Some(at) = self.family(of) else { return Some(Blocked::FamilyEnded) };
                let (id, current, previous, since, over) = self.families[at];
                let after = after.saturating_mul(10);
                if over {
                    return Some(Blocked::FamilyEnded);
                }
                let turns = if is == current {
                    (id, next, Some(is), after, false)
                } else if previous == Some(is) && i16::from(after) - i16::from(since) <= 30 {
                    (id, next, None, since, false)
                } else {
                    return Some(Blocked::Reused);
                };
                if also_alive.is_some_and(|lease| !self.alive(lease)) {
                    return ended;
                }
                self.families[at] = turns;
                self.leases.insert(number, (LeaseState::Issuing, None));
                self.members.insert(number, id);
                None
            }
            Step::GiveTurnBack { of, is, next } => {
                if let Some(at) = self.family(of)
                    && self.families[at].1 == next
                {
                    (self.families[at].1, self.families[at].2) = (is, None);
                }
                None
            }
            Step::EndFamily { of } => {
                let Some(at) = self.family(of).filter(|at| !self.families[*at].4) else {
                    return Some(Blocked::FamilyEnded);
                };
                self.families[at].4 = true;
                let id = self.families[at].0;
                let members: Vec<u8> =
                    self.members.iter().filter(|(_, of)| **of == id).map(|(lease, _)| *lease).collect();
                for lease in members.into_iter().filter(|lease| self.alive(*lease)).collect::<Vec<_>>() {
                    self.end(lease);
                }
                None
            }
            Step::Alive { lease } if self.alive(lease) => None,
            Step::End { .. } | Step::Alive { .. } => ended,
        }
    }
}

fn at(token: u8, leaves: LeaseState) -> Spend {
    Spend { issued: NOW.plus(token.into()), ..spend(token, leaves) }
}

fn commit(number: u8, epochs: u64, step: &Step, families: &[u8]) -> Commit {
    // One that never began has an id that no lease has.
    let id = |of: u8| families.get(usize::from(of)).map_or(0xffff, |id| u128::from(*id));
    match *step {
        Step::Grant { token, request, issuing, may_retry, also_alive, within, of } => {
            let leaves = if issuing { LeaseState::Issuing } else { LeaseState::Issued };
            let mut commit = grant(number.into(), Spend { request: [request; 32], may_retry, ..at(token, leaves) });
            commit.guards.push(not_suspended(&[of, of + 10], NOW));
            commit.guards.extend(within.map(|counter| Guard::Within(use_at(counter, NOW))));
            commit.guards.extend(also_alive.map(|lease| Guard::LeaseAlive(LeaseId(lease.into()))));
            commit
        }
        Step::Refuse { token, recorded } => {
            let commit = refuse(number.into(), vec![Guard::Unspent(at(token, LeaseState::Issued))], vec![]);
            Commit { entry: commit.entry.filter(|_| recorded), ..commit }
        }
        Step::Adopt => adopt(epochs + 2, NOW),
        Step::Suspend { of, replaces } => suspend(number.into(), of, None, replaces.map(Into::into)),
        Step::Resume { of, number } => resume(number.into(), of),
        Step::GiveBack { counter } => refuse(number.into(), vec![], vec![Change::GiveBack(use_at(counter, NOW))]),
        Step::Settle { lease, from, state } => settle_from(lease.into(), from, state),
        Step::End { lease } => end(lease.into()),
        Step::Alive { lease } => refuse(number.into(), vec![Guard::LeaseAlive(LeaseId(lease.into()))], vec![]),
        Step::Begin { token } => {
            let opens = Change::OpenFamily(Family { expires: NOW.plus(9_000), ..family_of(number.into(), 0) });
            in_family(grant(number.into(), at(token, LeaseState::Issued)), number.into(), Some(opens))
        }
        Step::Renew { of, is, next, after, also_alive } => {
            let after = i64::from(after.saturating_mul(10));
            let mut commit = renew(number.into(), id(of), (is, next), after);
            commit.guards.extend(also_alive.map(|lease| Guard::LeaseAlive(LeaseId(lease.into()))));
            commit
        }
        Step::GiveTurnBack { of, is, next } => {
            refuse(number.into(), vec![], vec![Change::GiveTurnBack(turn(id(of), (is, next), 0))])
        }
        Step::EndFamily { of } => end_family(id(of)),
    }
}

fn step() -> impl Strategy<Value = Step> {
    use LeaseState::{Failed, Issued, Issuing, Unknown};
    let from = prop_oneof![3 => Just(Issuing), 1 => Just(Issued)];
    let state = prop_oneof![Just(Issued), Just(Failed), Just(Unknown)];
    prop_oneof![
        4 => (0..4_u8, 0..2_u8, prop::bool::weighted(0.7), prop::bool::weighted(0.7), prop::option::weighted(0.2, 0..24_u8), prop::option::weighted(0.5, 0..2_u8), 0..2_u8)
            .prop_map(|(token, request, issuing, may_retry, also_alive, within, of)| {
                Step::Grant { token, request, issuing, may_retry, also_alive, within, of }
            }),
        1 => (0..4_u8, any::<bool>()).prop_map(|(token, recorded)| Step::Refuse { token, recorded }),
        1 => Just(Step::Adopt),
        1 => (0..2_u8).prop_map(|counter| Step::GiveBack { counter }),
        1 => (0..2_u8, prop::option::weighted(0.5, 0..24_u8)).prop_map(|(of, replaces)| Step::Suspend { of, replaces }),
        3 => (0..2_u8, 0..24_u8).prop_map(|(of, number)| Step::Resume { of, number }),
        4 => (0..24_u8, from, state).prop_map(|(lease, from, state)| Step::Settle { lease, from, state }),
        2 => (0..24_u8).prop_map(|lease| Step::End { lease }),
        1 => (0..24_u8).prop_map(|lease| Step::Alive { lease }),
        2 => (0..4_u8).prop_map(|token| Step::Begin { token }),
        // Few tokens, so that the right one is met, and the last, and one before.
        5 => (0..2_u8, 0..4_u8, 0..4_u8, 0..9_u8, prop::option::weighted(0.1, 0..24_u8))
            .prop_map(|(of, is, next, after, also_alive)| Step::Renew { of, is, next, after, also_alive }),
        1 => (0..2_u8, 0..4_u8, 0..4_u8).prop_map(|(of, is, next)| Step::GiveTurnBack { of, is, next }),
        1 => (0..2_u8).prop_map(|of| Step::EndFamily { of }),
    ]
}

type Batches = Vec<(Vec<Step>, bool)>;

fn batches() -> impl Strategy<Value = Batches> {
    prop::collection::vec((prop::collection::vec(step(), 1..8), prop::bool::weighted(0.2)), 1..8)
}

fn answers_as_the_model_does(place: &dyn Place, batches: Batches) -> Result<(), TestCaseError> {
    let (mut engine, mut chain) = place.engine().unwrap();
    let mut model = Model::default();
    let mut number = 0;
    for (steps, restart) in batches {
        if restart {
            drop(engine);
            (engine, chain) = place.engine().unwrap();
        }
        let (mut batch, mut expected) = (Vec::new(), Vec::new());
        let mut sequence = chain.sequence;
        for step in &steps {
            let epochs = model.epochs;
            let blocked = model.step(number, step);
            let families: Vec<u8> = model.families.iter().map(|(id, ..)| *id).collect();
            batch.push(commit(number, epochs, step, &families));
            expected.push(match blocked {
                Some(blocked) => Outcome::Blocked(blocked),
                None if matches!(step, Step::Refuse { recorded: false, .. }) => durable(sequence),
                None => {
                    (sequence, model.records) = (sequence + 1, model.records + 1);
                    durable(sequence)
                }
            });
            number += 1;
        }
        prop_assert_eq!(engine.apply(&batch, &mut chain).unwrap(), expected);
    }
    let report = verified(place, model.records);
    prop_assert_eq!(report.chain.head(), chain.head);
    prop_assert_eq!(report.leases, model.leases.len() as u64);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn random_batches_answer_as_the_model_does(batches in batches()) {
        answers_as_the_model_does(&super::sqlite::Folder::new(), batches)?;
    }
}

#[test]
fn random_batches_on_postgresql_answer_as_the_model_does() {
    let place = super::postgres::Server::start();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(24));
    let answers = |batches| {
        let answered = answers_as_the_model_does(&place, batches);
        place.empty();
        answered
    };
    runner.run(&batches(), answers).unwrap();
}
