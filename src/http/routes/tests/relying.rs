//! What relying parties ask: whether a token is good, and lists of those that are not.

use super::*;

fn introspect(authorization: &str, token: &str) -> TestRequest {
    post("/introspect", format!("token={token}")).insert_header(("authorization", authorization))
}

fn basic(pair: &str) -> String {
    use base64::{Engine, prelude::BASE64_STANDARD};
    format!("Basic {}", BASE64_STANDARD.encode(pair))
}

#[actix_web::test]
async fn who_introspects_proves_itself_first() {
    let fake: Arc<Fake> = Arc::default();
    for pair in ["openbao:s+e%3Ac%2Bret", "openbao:s e:c+ret", "%6Fpenbao:s+e%3Ac%2Bret"] {
        let got = ask(&fake, introspect(&basic(pair), "good")).await;
        assert_eq!((got.status, got.header("cache-control")), (200, "no-store"), "{pair}: {}", got.body);
        assert_eq!(got.json(), json!({ "active": true, "token_type": "Bearer", "jti": "7" }));
        assert!(!got.closes, "it will ask again");
    }
    let right = basic("openbao:s e:c+ret");
    for token in ["bad", "good.", "x.y.z"] {
        assert_eq!(ask(&fake, introspect(&right, token)).await.body, r#"{"active":false}"#);
    }
    assert_eq!(ask(&fake, introspect(&right, "")).await.status, 400);
    let got = ask(&fake, introspect(&right, "down")).await;
    assert_eq!((got.status, got.header("retry-after").is_empty()), (503, false));
    let encoded = right.trim_start_matches("Basic ");
    for wrong in [
        String::new(),
        "Basic".into(),
        "Basic %".into(),
        basic("openbao"),
        basic("openbao:"),
        basic("openbao:other"),
        basic("other:s e:c+ret"),
        format!("Bearer {encoded}"),
        encoded.to_owned(),
    ] {
        let got = ask(&fake, introspect(&wrong, "good")).await;
        assert_eq!((got.status, &got.json()["error"]), (401, &json!("invalid_client")), "{wrong}");
        assert!(got.header("www-authenticate").starts_with("Basic realm="), "{wrong}");
        assert!(!got.body.contains("active"));
    }
    let twice = introspect(&right, "good").append_header(("authorization", right.as_str()));
    assert_eq!(ask(&fake, twice).await.status, 401, "twice");
    assert_eq!(fake.turned_away.lock().unwrap().iter().filter(|status| **status == 401).count(), 10);
}

#[actix_web::test]
async fn introspections_have_a_rate_of_their_own_and_guesses_their_networks() {
    let fake: Arc<Fake> = Arc::default();
    let mut config = config();
    (config.limits.introspections_per_second, config.limits.requests_per_second) = (1, 1);
    let shared = Data::new(Shared::new(Box::new(fake.clone()), config));
    let app = init_service(App::new().app_data(shared).wrap(from_fn(around)).configure(configure(PUBLIC))).await;
    let statuses = async |authorization: &str| {
        let mut statuses = Vec::new();
        for _ in 0..11 {
            let request = introspect(authorization, "good").to_request();
            statuses.push(got(app.call(request).await.unwrap()).await.status);
        }
        statuses
    };
    assert_eq!(statuses(&basic("openbao:wrong")).await, [&[401; 10][..], &[429]].concat());
    assert_eq!(
        statuses(&basic("openbao:s e:c+ret")).await,
        [&[200; 10][..], &[429]].concat(),
        "whoever guesses beside it"
    );
}

#[actix_web::test]
async fn a_status_list_says_what_it_is_and_how_long_it_may_be_kept() {
    let fake: Arc<Fake> = Arc::default();
    let got = ask(&fake, from(STRANGER).uri("/statuslists/00ab")).await;
    assert_eq!((got.status, got.body.as_str()), (200, "h.p.s"));
    assert_eq!(got.header("content-type"), "application/statuslist+jwt");
    assert_eq!((got.header("cache-control"), got.header("etag")), ("public, max-age=10", "\"t1\""));
    for (known, status) in [("\"t1\"", 304), ("\"x\", W/\"t1\"", 304), ("\"t2\"", 200), ("t1", 200)] {
        let again = ask(&fake, from(STRANGER).uri("/statuslists/00ab").insert_header(("if-none-match", known))).await;
        assert_eq!((again.status, again.header("etag")), (status, "\"t1\""), "{known}");
        assert_eq!(again.body.is_empty(), status == 304);
    }
    assert_eq!(ask(&fake, from(STRANGER).uri("/statuslists/gone")).await.status, 404);
    let down = ask(&fake, from(STRANGER).uri("/statuslists/down")).await;
    assert_eq!((down.status, down.header("retry-after").is_empty()), (503, false));
}
