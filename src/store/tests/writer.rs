//! The group commit over engines that do what they are told.

use super::*;
use crate::store::writer::BATCH_COMMITS_MAX;
use std::{
    sync::{
        Mutex,
        mpsc::{Receiver, Sender, channel},
    },
    time::Duration,
};

const LONG: Duration = Duration::from_secs(60);

/// Sequences and links.
type Written = Arc<Mutex<Vec<(u64, [u8; 32])>>>;

fn chain() -> Chain {
    Chain { incarnation: 1, sequence: 0, head: [0; 32] }
}

fn commit(number: u128) -> Commit {
    refuse(number, vec![], vec![])
}

/// What the engine does with a batch.
enum Order {
    Write,
    Fail,
    /// Fails after it moved the chain.
    FailLate,
    Panic,
    Lose,
}

/// Tells of each batch, then waits for an order.
struct Puppet {
    batches: Sender<usize>,
    orders: Receiver<Order>,
    written: Written,
}

struct Hand {
    batches: Receiver<usize>,
    orders: Sender<Order>,
    written: Written,
}

fn puppet() -> (Box<Puppet>, Hand) {
    let ((batches, told), (orders, ordered)) = (channel(), channel());
    let written = Written::default();
    let puppet = Puppet { batches, orders: ordered, written: written.clone() };
    (Box::new(puppet), Hand { batches: told, orders, written })
}

impl Engine for Puppet {
    fn apply(&mut self, batch: &[Commit], chain: &mut Chain) -> Result<Vec<Outcome>, Down> {
        self.batches.send(batch.len()).unwrap();
        let order = self.orders.recv().unwrap();
        if let Order::Fail = order {
            return Err(Down::new("told to fail"));
        }
        let linked: Vec<_> = batch.iter().map(|commit| chain.link(commit.entry.clone().unwrap())).collect();
        match order {
            Order::FailLate => Err(Down::new("told to fail")),
            Order::Panic => panic!("told to panic"),
            Order::Lose => Ok(vec![]),
            Order::Write | Order::Fail => {
                self.written.lock().unwrap().extend(linked.iter().map(|linked| (linked.sequence, linked.link)));
                Ok(linked.iter().map(|linked| durable(linked.sequence)).collect())
            }
        }
    }
}

#[tokio::test]
async fn a_failure_answers_down_once_and_the_chain_goes_on() {
    let (engine, hand) = puppet();
    let writer = Writer::start(engine, chain());
    assert!(writer.healthy());
    let mut expected = chain();
    let mut number = 0;
    for order in [Order::Fail, Order::FailLate, Order::Panic, Order::Lose] {
        number += 1;
        hand.orders.send(order).unwrap();
        writer.commit(commit(number)).await.unwrap_err();
        assert!(!writer.healthy());
        number += 1;
        hand.orders.send(Order::Write).unwrap();
        let linked = expected.link(commit(number).entry.unwrap());
        assert_eq!(writer.commit(commit(number)).await.unwrap(), durable(linked.sequence));
        assert!(writer.healthy());
        assert_eq!(hand.written.lock().unwrap().last(), Some(&(linked.sequence, linked.link)));
    }
    let mut silent = commit(number);
    (silent.entry, silent.changes) = (None, vec![Change::End { lease: LeaseId(1), children: 0 }]);
    writer.commit(silent).await.expect_err("a change comes with a record");
    assert_eq!(hand.batches.try_iter().count(), 8, "nothing is tried again");
    assert_eq!(hand.written.lock().unwrap().len(), 4);
    writer.sweep(NOW).await.unwrap();
    writer.stop().await;
}

#[tokio::test]
async fn a_full_queue_is_down_and_drains() {
    let (engine, hand) = puppet();
    let writer = Writer::with_limits(engine, chain(), 3, LONG);
    let mut waiters = Vec::new();
    for number in 0..4 {
        let writer = writer.clone();
        waiters.push(tokio::spawn(async move { writer.commit(commit(number)).await }));
        tokio::task::yield_now().await;
        if number == 0 {
            assert_eq!(hand.batches.recv().unwrap(), 1);
        }
    }
    assert_eq!(writer.waiting(), 3);
    assert_eq!(writer.commit(commit(9)).await.unwrap_err().why, "too many commits are waiting");
    hand.orders.send(Order::Write).unwrap();
    hand.orders.send(Order::Write).unwrap();
    for waiter in waiters {
        waiter.await.unwrap().unwrap();
    }
    assert_eq!(hand.batches.recv().unwrap(), 3);
    assert_eq!(writer.waiting(), 0);
    writer.stop().await;
}

#[tokio::test]
async fn who_waits_shares_batches_of_a_bounded_size() {
    let (engine, hand) = puppet();
    let writer = Writer::with_limits(engine, chain(), 1_000, LONG);
    let first = tokio::spawn({
        let writer = writer.clone();
        async move { writer.commit(commit(0)).await }
    });
    tokio::task::yield_now().await;
    assert_eq!(hand.batches.recv().unwrap(), 1);
    let more = tokio::spawn({
        let writer = writer.clone();
        async move { futures_util::future::join_all((1..=300).map(|number| writer.commit(commit(number)))).await }
    });
    tokio::task::yield_now().await;
    for _ in 0..3 {
        hand.orders.send(Order::Write).unwrap();
    }
    first.await.unwrap().unwrap();
    let sequences: Vec<_> = more.await.unwrap().into_iter().map(Result::unwrap).collect();
    assert_eq!(sequences, (2..=301).map(durable).collect::<Vec<_>>(), "in the order in which they came");
    assert_eq!(hand.batches.try_iter().collect::<Vec<_>>(), [BATCH_COMMITS_MAX, 44]);
    writer.stop().await;
}

#[tokio::test]
async fn a_slow_store_is_down_and_who_has_gone_is_not_written() {
    let (engine, hand) = puppet();
    let writer = Writer::with_limits(engine, chain(), 10, Duration::from_millis(20));
    let why = writer.commit(commit(1)).await.unwrap_err().why;
    assert_eq!(why, "no answer within 20ms");
    assert_eq!(hand.batches.recv().unwrap(), 1);
    // The thread is still busy with the first; this one gives up in the queue.
    writer.commit(commit(2)).await.unwrap_err();
    let mut patient = writer.clone();
    patient.wait_max = LONG;
    let third = tokio::spawn(async move { patient.commit(commit(3)).await });
    tokio::task::yield_now().await;
    hand.orders.send(Order::Write).unwrap();
    hand.orders.send(Order::Write).unwrap();
    assert_eq!(third.await.unwrap().unwrap(), durable(2));
    assert_eq!(hand.written.lock().unwrap().len(), 2);
    writer.stop().await;
}

#[tokio::test]
async fn stop_writes_what_waits_and_closes() {
    let (engine, hand) = puppet();
    let writer = Writer::with_limits(engine, chain(), 10, LONG);
    let waiters: Vec<_> = (0..5)
        .map(|number| {
            let writer = writer.clone();
            tokio::spawn(async move { writer.commit(commit(number)).await })
        })
        .collect();
    tokio::task::yield_now().await;
    let stopping = tokio::spawn({
        let writer = writer.clone();
        async move { writer.stop().await }
    });
    for _ in 0..5 {
        hand.orders.send(Order::Write).unwrap();
    }
    stopping.await.unwrap();
    for waiter in waiters {
        waiter.await.unwrap().unwrap();
    }
    assert_eq!(hand.written.lock().unwrap().len(), 5);
    assert!(hand.orders.send(Order::Write).is_err(), "the engine is dropped");
    assert_eq!(writer.commit(commit(9)).await.unwrap_err().why, "the store is closed");
    assert!(!writer.healthy());
    writer.stop().await;
}
