//! The bench: what a test of claimbound needs around the broker, so that the test itself says only what it is about.
//!
//! Nothing here knows the broker's code. The bench starts the built program and speaks HTTP to it, plays the CI
//! system on the other side with an [`issuer::Issuer`] that is honest until told otherwise, and looks from outside at
//! what the broker wrote ([`canary`]) and whom it called ([`trap`]). All of it is on loopback, on ports that the
//! system chooses; each test has a directory and a broker of its own, so tests run side by side.
//!
//! # What a test looks like
//!
//! ```no_run
//! use claimbound_test_support::{broker::Broker, config::BrokerConfig, issuer::Issuer};
//!
//! const BINARY: &str = "target/debug/claimbound"; // in the root crate's tests: env!("CARGO_BIN_EXE_claimbound")
//!
//! # async fn test() {
//! let issuer = Issuer::github();
//! let broker = Broker::start(BINARY, BrokerConfig::new(&issuer)).await;
//!
//! let job = issuer.job().branch("main").environment("production");
//! let granted = broker.exchange_for(&job.token(broker.audience()), "payments-release").await;
//! assert_eq!(granted.status, 200, "{}", granted.text);
//!
//! // The same job from a repository that took over the name: everything can be changed or left out.
//! let squatter = job.clone().repository_id(740_999_999).token(broker.audience());
//! let refused = broker.exchange_for(&squatter, "payments-release").await;
//! assert_eq!(refused.status, 400);
//! # }
//! ```
//!
//! - **Claims.** [`job::Job`] begins as a push to `main` of `acme/payments-api` without an environment; its ids agree
//!   with the default mapping folder. `.claim("exp", json!("soon"))` and `.without("jti")` reach every claim,
//!   `.header(…)` every header member; [`jwt`] forges what no issuer would sign.
//! - **A broken issuer.** `issuer.serve_keys(Serve::Hang)` and the other ways of [`serve::Serve`], `issuer.close()`,
//!   `issuer.rotate()`, `issuer.withdraw(kid)`; `issuer.key_fetches()` counts. `Issuer::github_over_tls(…)` has a
//!   certificate of the test's making.
//! - **Another folder.** `BrokerConfig::new(&issuer).edit("policy.toml", "acme = 65", "acme = 66")`, or
//!   `BrokerConfig::with_folder(&[…]).issuer("github", &issuer)`.
//! - **Crashes.** `broker.kill9()`, `broker.terminate()`, `broker.restart()`: same ports, store and keys.
//! - **Secrets.** `canary::assert_absent(broker.directory(), &[&token])`.
//! - **Waiting.** [`time::eventually`] over something observable; a test never sleeps.
//! - **Real parts.** [`postgres::Postgres`], [`tools::OpenBao`], [`provider::Provider`], [`act::Act`], [`gitlab::Gitlab`] and Node, which `scripts/tools` installs; without them their tests
//!   fail.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a bench that cannot go on fails the test it serves")]

pub mod accounts;
pub mod act;
pub mod broker;
pub mod canary;
pub mod chromium;
pub mod command;
pub mod comments;
pub mod config;
pub mod forge;
pub mod gitlab;
pub mod http;
pub mod issuer;
pub mod job;
pub mod jwt;
pub mod postgres;
pub mod provider;
pub mod serve;
pub mod sts;
pub mod time;
pub mod tools;
pub mod trap;
