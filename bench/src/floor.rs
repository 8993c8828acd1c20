//! The floor: what no exchange can be cheaper than. A server that verifies a token and signs another, without policy, state or
//! evidence; the same with what must be on disk; and both operations by themselves.

use crate::{durable::Durable, machine::thread_cpu_us, tokens::Tokens};
use actix_web::{App, HttpResponse, HttpServer, web};
use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use serde_json::{Value, json};
use std::{hint::black_box, io::Write as _, path::Path};

/// Longest form that the floor reads, in bytes.
const FORM_BYTES_MAX: usize = 64 * 1024;
/// Operations between two looks at the clock.
const BATCH: u32 = 200;

/// Verifies and signs.
pub struct Keys {
    issuer: ParsedPublicKey,
    own: EcdsaKeyPair,
    random: SystemRandom,
}

impl Keys {
    /// With the issuer's key: an `RSAPublicKey` (RFC 8017, appendix A.1.1), base64url.
    pub fn new(issuer: &str) -> Self {
        let der = BASE64.decode(issuer).expect("a key is base64url");
        let issuer = ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, der).expect("an RSA key");
        let own = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key can be made");
        Self { issuer, own, random: SystemRandom::new() }
    }

    /// Whether the issuer signed it.
    pub fn verifies(&self, token: &str) -> bool {
        let Some((signed, signature)) = token.rsplit_once('.') else { return false };
        let signature = BASE64.decode(signature).unwrap_or_default();
        self.issuer.verify_sig(signed.as_bytes(), &signature).is_ok()
    }

    /// A token of ours.
    pub fn sign(&self, claims: &Value) -> String {
        let signed =
            format!("{}.{}", BASE64.encode(r#"{"typ":"at+jwt","alg":"ES256"}"#), BASE64.encode(claims.to_string()));
        let signature = self.own.sign(&self.random, signed.as_bytes()).expect("a key signs");
        format!("{signed}.{}", BASE64.encode(signature))
    }
}

fn claims() -> Value {
    json!({
        "iss": "https://claimbound.bench.example", "sub": "repo:acme/billing-0-0", "aud": "https://openbao.acme.example/billing-0",
        "iat": 1_790_000_000, "exp": 1_790_000_900, "jti": "0193f0a4-0000-7000-8000-000000000000",
        "repository": "acme/billing-0-0", "repository_id": "700000000", "role": "billing-0-secrets",
    })
}

/// Serves until it is killed, with as many workers as processors; prints its address first. With a file, each token is good once.
pub fn serve(issuer: &str, store: Option<&Path>) -> std::io::Result<()> {
    let keys = web::Data::new(Keys::new(issuer));
    let store = store.map(Durable::start).transpose().map_err(std::io::Error::other)?;
    let store = web::Data::new(store);
    actix_web::rt::System::new().block_on(async {
        let server = HttpServer::new(move || {
            let limit = web::PayloadConfig::new(FORM_BYTES_MAX);
            App::new()
                .app_data(keys.clone())
                .app_data(store.clone())
                .app_data(limit)
                .route("/token", web::post().to(exchange))
        });
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        let server = server.workers(workers).bind("127.0.0.1:0")?;
        let mut stdout = std::io::stdout();
        writeln!(stdout, "{}", server.addrs()[0])?;
        stdout.flush()?;
        server.run().await
    })
}

async fn exchange(keys: web::Data<Keys>, store: web::Data<Option<Durable>>, body: String) -> HttpResponse {
    let token = body.rsplit_once("subject_token=").map_or("", |(_, token)| token);
    if !keys.verifies(token) {
        return HttpResponse::BadRequest().finish();
    }
    let answer = json!({ "access_token": keys.sign(&claims()), "token_type": "Bearer", "expires_in": 900 });
    match store.as_ref() {
        Some(store) if !store.spend(token).await => HttpResponse::BadRequest().finish(),
        _ => HttpResponse::Ok().json(answer),
    }
}

/// One operation by itself.
#[derive(Clone, Copy)]
pub enum Operation {
    Verify,
    Sign,
}

/// Microseconds of processor time that one takes: the least of several rounds, so that neighbours do not count.
pub fn operation_us(operation: Operation, keys: &Keys, tokens: &Tokens, seconds: f64) -> f64 {
    let tokens: Vec<&str> =
        (0..tokens.len()).map(|at| std::str::from_utf8(tokens.get(at)).expect("a token is text")).collect();
    let mut next = tokens.iter().cycle();
    let claims = claims();
    let (began, mut least) = (thread_cpu_us(), f64::INFINITY);
    while thread_cpu_us() - began < seconds * 1e6 {
        let before = thread_cpu_us();
        for _ in 0..BATCH {
            match operation {
                Operation::Verify => assert!(keys.verifies(next.next().expect("a cycle")), "a good token"),
                Operation::Sign => drop(black_box(keys.sign(&claims))),
            }
        }
        least = least.min((thread_cpu_us() - before) / f64::from(BATCH));
    }
    least
}
