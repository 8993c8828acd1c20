//! Everything about the repository, the command line and HTTP: one binary.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod agreement;
mod attacks;
mod aws;
mod ceremony;
mod claim_pages;
mod clients;
mod cloud_action;
mod cloud_aws;
mod cloud_browser;
mod cloud_clients;
mod cloud_delegation;
mod cloud_denial;
mod cloud_operators;
mod cloud_parts;
mod cloud_quickstart;
mod cloud_sts;
mod cloud_texts;
mod commands;
mod corpus;
mod delegation;
mod diff;
mod docs;
mod downstream;
mod ending;
mod evidence;
mod exceptions;
mod exchange;
mod first_mapping;
mod flood;
mod hangup;
mod heavy_crash;
mod heavy_storm;
mod http;
mod import;
mod introspection;
mod issuers;
mod jwks;
mod laptop;
mod limits;
mod operators;
mod outage;
mod pin;
mod postgres;
mod profiles;
mod pull_requests;
mod raw_claims;
mod records;
mod reload;
mod renewal;
mod security;
mod security_keys;
mod signing;
mod telemetry;
mod tidy;
mod usage;

/// The program under test.
const BINARY: &str = env!("CARGO_BIN_EXE_claimbound");
