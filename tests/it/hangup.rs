//! A client that hangs up does not undo an exchange: what was begun is finished and on record.

use crate::{BINARY, records};
use claimbound_test_support::{
    broker::{Broker, ID_TOKEN, TOKEN_EXCHANGE},
    config::BrokerConfig,
    issuer::Issuer,
    time::eventually,
};
use serde_json::Value;
use std::time::Duration;
use tokio::{io::AsyncWriteExt, net::TcpStream};

const CLIENTS: usize = 20;

#[tokio::test]
async fn exchanges_of_clients_that_hung_up_are_finished_and_spend_their_tokens() {
    let issuer = Issuer::github();
    let mut broker = Broker::start(BINARY, BrokerConfig::new(&issuer)).await;
    let address = broker.url().trim_start_matches("http://").to_owned();
    let job = issuer.job().branch("main").environment("production");
    let tokens: Vec<_> = (0..CLIENTS).map(|_| job.token(broker.audience())).collect();
    for token in &tokens {
        let body = format!(
            "grant_type={TOKEN_EXCHANGE}&subject_token_type={ID_TOKEN}&audience=payments-release&subject_token={token}"
        );
        let head = format!(
            "POST /token HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let mut stream = TcpStream::connect(&address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body.as_bytes()).await.unwrap();
        // Hangs up without reading a byte of the answer.
        drop(stream);
    }
    eventually(Duration::from_secs(20), async || (records::of_kind(&broker, "granted").len() == CLIENTS).then_some(()))
        .await;
    let again = broker.exchange_for(&tokens[0], "payments-release").await;
    assert_eq!((again.status, &again.body["reason"]), (400, &Value::from("replay")), "{}", again.text);
    assert_eq!(broker.terminate().await.code, Some(0));
    let verified = broker.command(&["audit", "verify", "--store", "sqlite:claimbound.db"]).await;
    assert_eq!(verified.code, Some(0), "{}{}", verified.stdout, verified.stderr);
}
