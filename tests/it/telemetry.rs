//! What a broker tells of itself: series, traces, copies of the records; and that no secret is in any of it.

pub mod host;

use crate::{
    BINARY,
    introspection::{introspect, with_servers},
    records,
};
use claimbound::store::{self, Kept};
use claimbound_test_support::{
    broker::{Broker, ID_TOKEN, TOKEN_EXCHANGE},
    canary,
    config::{BrokerConfig, RELEASE_AUDIENCE},
    http,
    issuer::Issuer,
    time::eventually,
};
use host::Host;
use opentelemetry_proto::tonic::{
    collector::{logs::v1::ExportLogsServiceRequest, trace::v1::ExportTraceServiceRequest},
    common::v1::{KeyValue, any_value::Value as Any},
    trace::v1::Span,
};
use prost::Message as _;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    time::Duration,
};

/// Of six exchanges: one for each and one for each of its steps.
const SPANS: f64 = 26.0;
/// Of a start, a folder, two keys, six answers and a lease that was ended.
const RECORDS: f64 = 11.0;
const SOON: Duration = Duration::from_secs(60);
/// The trace and the span of whoever asks.
const CALLER: (&str, &str) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");

/// Series by name: type, and names of labels.
type Series = BTreeMap<String, (String, BTreeSet<String>)>;

#[tokio::test]
async fn a_broker_tells_what_it_did_in_series_spans_and_copies_and_never_a_secret() {
    let (issuer, host) = (Issuer::github(), Host::start().await);
    let tables = format!(
        "[telemetry.otlp]\nendpoint = \"{url}\"\nheaders = {{ authorization = {{ env = \"OTLP_TOKEN\" }} }}\n\
         [[evidence.sink]]\nkind = \"file\"\npath = \"evidence.jsonl\"\ndetails = true\n\
         [[evidence.sink]]\nkind = \"otlp\"\nendpoint = \"{url}\"\ndetails = true\n\
         [[webhook]]\nname = \"hook\"\nurl = \"https://hooks.acme.example\"\nformat = \"slack\"\n",
        url = host.url()
    );
    let config = with_servers(BrokerConfig::new(&issuer), RELEASE_AUDIENCE)
        .server("trusted_proxies = [\"127.0.0.1\"]")
        .toml(&tables)
        .env("OTLP_TOKEN", "Bearer otlp-canary-0001")
        .env("CLAIMBOUND_LOG", "trace");
    let broker = Broker::start(BINARY, config).await;

    // Everything that has a series.
    let releasing = issuer.job().branch("main").environment("production");
    let [token, second, third, again] = [(); 4].map(|()| releasing.token(broker.audience()));
    let form = |token| {
        [
            ("grant_type", TOKEN_EXCHANGE),
            ("subject_token", token),
            ("subject_token_type", ID_TOKEN),
            ("audience", "payments-release"),
        ]
    };
    let post = http::client().post(format!("{}/token", broker.url())).form(&form(&token));
    let asked = post.header("traceparent", format!("00-{}-{}-01", CALLER.0, CALLER.1));
    let granted = http::send(asked).await.unwrap();
    assert_eq!(granted.status, 200, "{}", granted.text);
    let dry = broker.exchange(&[&form(&second)[..], &[("dry_run", "true")]].concat()).await;
    assert_eq!(dry.status, 200, "{}", dry.text);
    let refused = broker.exchange_for(&issuer.job().branch("dev").token(broker.audience()), "payments-release").await;
    assert_eq!(refused.status, 400);
    let replayed = broker.exchange_for(&token, "payments-release").await;
    assert_eq!(replayed.status, 400);
    broker.exchange_for("not-a-token-canary-0001", "payments-release").await;
    let large = http::post_form(&format!("{}/token", broker.url()), &[("x", &"x".repeat(70_000))]).await;
    assert_eq!(large.status, 413);
    let no_action = http::post_form(&format!("{}/aws/sts", broker.url()), &[("Action", "ListRoles")]).await;
    assert_eq!(no_action.status, 400);
    let revoked = broker.exchange_for(&third, "payments-release").await;
    assert_eq!(introspect(&broker, revoked.text_of("access_token")).await.body["active"], true);
    broker.revoke(revoked.text_of("access_token")).await;
    broker.signal("HUP").await;

    let told = eventually(SOON, async || {
        let metrics = broker.metrics().await;
        let ready = metrics.sum("claimbound_reloads_total", &[]) > 0.0
            && metrics.sum("claimbound_store_counted_timestamp_seconds", &[]) > 0.0
            && metrics.sum("claimbound_spans_exported_total", &[]) >= SPANS
            && ["file", "otlp"]
                .iter()
                .all(|sink| metrics.sum("claimbound_sink_records_total", &[("sink", sink)]) == RECORDS);
        ready.then_some(metrics)
    });
    let metrics = told.await;
    let of = [("issuer", "github"), ("role", "payments-release"), ("mapping", granted.text_of("mapping"))];
    assert_eq!(metrics.sum("claimbound_exchanges_total", &[&of[..], &[("outcome", "granted")]].concat()), 2.0);
    assert_eq!(metrics.sum("claimbound_exchanges_total", &[&of[..], &[("reason", "replay")]].concat()), 1.0);
    assert_eq!(
        metrics.sum("claimbound_mint_duration_seconds_count", &[("backend", "jwt"), ("outcome", "issued")]),
        2.0
    );
    assert_eq!(metrics.sum("claimbound_evidence_records_total", &[]), RECORDS);
    assert_eq!(records::all(&broker).len() as f64, RECORDS);
    assert!(metrics.sum("process_resident_memory_bytes", &[]) > 1e6);
    let (real, documented) = (scraped(&metrics.0), documented());
    assert_eq!(real, documented, "what `/metrics` says, and docs/metrics.md");
    deployed(&documented);

    spans_tell_of_steps(&host, granted.text_of("decision_id"), refused.text_of("decision_id")).await;
    copies_are_the_records(&host, &broker).await;

    let sent = [host.posted("/v1/traces"), host.posted("/v1/logs")].concat();
    let traces = host.posted("/v1/traces");
    assert!(traces.iter().all(|posted| posted.head.contains("authorization: Bearer otlp-canary-0001")));
    let secrets = [&token, &second, &third, &again, granted.text_of("access_token"), revoked.text_of("access_token")];
    let secrets = [&secrets[..], &["otlp-canary-0001", "not-a-token-canary-0001"]].concat();
    canary::assert_absent(broker.directory(), &secrets);
    for posted in sent {
        let holds = |secret: &&str| posted.body.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!secrets.iter().any(holds), "a secret went to {}", posted.path);
    }
}

async fn spans_tell_of_steps(host: &Host, granted: &str, refused: &str) {
    let spans = || -> Vec<Span> {
        let messages = host.posted("/v1/traces").into_iter();
        let messages = messages.map(|posted| ExportTraceServiceRequest::decode(&*posted.body).unwrap());
        let resources = messages.flat_map(|message| message.resource_spans);
        resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans).collect()
    };
    let of = async |decision: &str| {
        let named = |span: &Span| span.name == "exchange" && attribute(&span.attributes, "decision_id") == decision;
        eventually(SOON, async || spans().into_iter().find(named)).await
    };
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let steps = |parent: &Span| -> BTreeSet<String> {
        let below = spans().into_iter().filter(|span| span.parent_span_id == parent.span_id);
        below.inspect(|span| assert_eq!(span.trace_id, parent.trace_id)).map(|span| span.name).collect()
    };
    let span = of(granted).await;
    assert_eq!((hex(&span.trace_id).as_str(), hex(&span.parent_span_id).as_str()), CALLER, "the proxy's trace");
    assert_eq!(steps(&span), BTreeSet::from(["prove", "decide", "admit", "mint"].map(str::to_owned)));
    let names: BTreeSet<&str> = span.attributes.iter().map(|attribute| attribute.key.as_str()).collect();
    assert_eq!(names, BTreeSet::from(["decision_id", "issuer", "mapping", "role", "outcome", "reason"]));
    assert_eq!(attribute(&span.attributes, "outcome"), "granted");
    let span = of(refused).await;
    assert!(span.parent_span_id.is_empty() && hex(&span.trace_id) != CALLER.0, "a trace of its own");
    assert_eq!(attribute(&span.attributes, "outcome"), "refused");
    assert_eq!(steps(&span), BTreeSet::from(["prove", "decide", "refuse"].map(str::to_owned)));
}

async fn copies_are_the_records(host: &Host, broker: &Broker) {
    let mut stored = Vec::new();
    let reader = store::open_reader(&broker.store()).unwrap();
    let each = &mut |kept| {
        if let Kept::Record(record) = kept {
            stored.push((String::from_utf8(record.body).unwrap(), String::from_utf8(record.details).unwrap()));
        }
        true
    };
    reader.snapshot(each).unwrap();
    let text = fs::read_to_string(broker.directory().join("evidence.jsonl")).unwrap();
    let (records, notes): (Vec<_>, Vec<_>) = text.lines().partition(|line| line.starts_with(r#"{"type":"record","#));
    let note = notes.first().map(|line| serde_json::from_str::<Value>(line).unwrap()).unwrap_or_default();
    assert!(note["type"] == "checkpoint" && note["note"].as_str().unwrap().contains("/evidence\n"), "{note}");
    assert_eq!(records.len(), stored.len());
    for (line, (body, details)) in records.into_iter().zip(&stored) {
        assert!(line.ends_with(&format!(r#""body":{body}}}"#)), "as it was hashed: {line}");
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["details"], serde_json::from_str(details).unwrap_or(Value::Null));
    }
    let messages = host.posted("/v1/logs").into_iter();
    let messages = messages.map(|posted| ExportLogsServiceRequest::decode(&*posted.body).unwrap());
    let resources = messages.flat_map(|message| message.resource_logs);
    let logs: Vec<_> = resources.flat_map(|resource| resource.scope_logs).flat_map(|scope| scope.log_records).collect();
    let bodies: Vec<_> = logs
        .iter()
        .filter(|log| attribute(&log.attributes, "claimbound.type") == "record")
        .map(|log| match log.body.as_ref().and_then(|body| body.value.as_ref()) {
            Some(Any::StringValue(text)) => text.as_str(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(bodies, stored.iter().map(|(body, _)| body.as_str()).collect::<Vec<_>>());
    assert!(logs.iter().any(|log| attribute(&log.attributes, "claimbound.kind") == "granted"));
}

fn attribute(attributes: &[KeyValue], key: &str) -> String {
    let found = attributes.iter().find(|attribute| attribute.key == key).and_then(|found| found.value.as_ref());
    match found.and_then(|value| value.value.as_ref()) {
        Some(Any::StringValue(text)) => text.clone(),
        _ => String::new(),
    }
}

/// What a scrape shows; a histogram is one series.
fn scraped(text: &str) -> Series {
    let kinds: BTreeMap<&str, &str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    let mut found = Series::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, _) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let of = |ending: &str, kind: &str| name.strip_suffix(ending).filter(|base| kinds.get(base) == Some(&kind));
        let histogram = ["_bucket", "_sum", "_count"].iter().find_map(|ending| of(ending, "histogram"));
        let (name, kind) = match (histogram, of("_total", "counter"), of("_info", "info")) {
            (Some(base), ..) => (base, "histogram"),
            (_, Some(_), _) => (name, "counter"),
            (.., Some(_)) => (name, "gauge"),
            _ => (name, *kinds.get(name).unwrap_or_else(|| panic!("no type of {name}"))),
        };
        let labels = labels.split(',').filter_map(|label| Some(label.split_once("=\"")?.0.to_owned()));
        let entry = found.entry(name.to_owned()).or_insert_with(|| (kind.to_owned(), BTreeSet::new()));
        entry.1.extend(labels.filter(|label| label != "le"));
    }
    found
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The table of docs/metrics.md.
fn documented() -> Series {
    let rows = read("docs/metrics.md");
    let rows = rows.lines().filter(|line| line.starts_with("| `claimbound_") || line.starts_with("| `process_"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let labels =
            cells[3].split(", ").filter(|label| !label.is_empty()).map(|label| label.trim_matches('`').to_owned());
        (cells[1].trim_matches('`').to_owned(), (cells[2].to_owned(), labels.collect()))
    })
    .collect()
}

/// Whatever the dashboard and the alert rules ask for is there.
fn deployed(series: &Series) {
    let dashboard: Value = serde_json::from_str(&read("deploy/grafana/claimbound.json")).unwrap();
    let mut asked: Vec<(String, String)> = Vec::new();
    let mut ids = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "two panels of one id");
        for target in panel["targets"].as_array().into_iter().flatten() {
            asked.push((
                target["expr"].as_str().unwrap().to_owned(),
                target["legendFormat"].as_str().unwrap().to_owned(),
            ));
        }
    }
    let rules = read("deploy/prometheus/alerts.yml");
    for rule in rules.split("- alert: ").skip(1) {
        let part = |name: &str| rule.lines().find_map(|line| line.trim().strip_prefix(name)).unwrap_or_default();
        assert!(
            !part("expr: ").is_empty() && !part("summary: ").is_empty() && !part("description: ").is_empty(),
            "{rule}"
        );
        assert!(["critical", "warning", "info"].iter().any(|one| part("labels: ") == format!("{{ severity: {one} }}")));
        asked.push((part("expr: ").to_owned(), part("summary: ").to_owned()));
    }
    assert!(asked.len() > 40, "{}", asked.len());
    for (expression, text) in asked {
        let balanced = ["()", "{}", "[]"].iter().all(|pair| {
            let count = |at: usize| expression.matches(&pair[at..=at]).count();
            count(0) == count(1)
        });
        assert!(balanced, "{expression}");
        let mut known: BTreeSet<&str> = BTreeSet::from(["job", "instance", "le"]);
        let mut labels: Vec<&str> = Vec::new();
        let names = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        for name in names.filter(|name| name.starts_with("claimbound_") || name.starts_with("process_")) {
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|ending| name.strip_suffix(ending));
            let histogram = base.and_then(|base| series.get(base)).filter(|(kind, _)| kind == "histogram");
            let (_, own) =
                histogram.or_else(|| series.get(name)).unwrap_or_else(|| panic!("no series {name}: {expression}"));
            known.extend(own.iter().map(String::as_str));
        }
        for matchers in expression.split('{').skip(1).filter_map(|rest| rest.split_once('}')) {
            labels.extend(matchers.0.split("\",").filter_map(|one| one.split(['=', '!']).next()));
        }
        for group in expression.split("by (").skip(1).filter_map(|rest| rest.split_once(')')) {
            labels.extend(group.0.split(", "));
        }
        let shown = text.split("{{").skip(1).filter_map(|rest| rest.split_once("}}"));
        labels.extend(shown.map(|(label, _)| label.trim().trim_start_matches("$labels.")));
        for label in labels {
            assert!(known.contains(label.trim()), "no label `{label}`: {expression} {text}");
        }
    }
}
