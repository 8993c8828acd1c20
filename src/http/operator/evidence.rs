//! Questions to the evidence: the same that commands ask of a store, answered by the same code.

use super::{broker, respond, say};
use crate::{
    broker::Question as Reads,
    folder::FOLDER_MAX_BYTES,
    history::{
        self, Answer, Format, Loaded, Told,
        access::{self, moment},
        find::{self, PAGE, PAGE_MAX, Wanted},
        log::{Log, since},
        plan, unused,
    },
    http::{answer::Reply, front::Shared, limit},
    store::Down,
};
use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, Path},
};
use anyhow::Context as _;
use claimbound_core::{
    evidence::DecisionId,
    mapping::{Folder, load},
    time::{Seconds, UnixSeconds},
    workload::Profiles,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;
use std::collections::BTreeMap;

/// A request with a mapping folder in it. Larger folders are asked about beside the store.
const FOLDER_BODY_BYTES_MAX: usize = 32 * 1024 * 1024;
const _: () = assert!(FOLDER_BODY_BYTES_MAX <= FOLDER_MAX_BYTES);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    repository: Option<String>,
    principal: Option<String>,
    actor: Option<String>,
    role: Option<String>,
    mapping: Option<String>,
    lease: Option<String>,
    initiator: Option<String>,
    approver: Option<String>,
    handle: Option<String>,
    outcome: Option<String>,
    from: Option<String>,
    to: Option<String>,
    limit: Option<usize>,
    cursor: Option<i64>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct One {
    #[serde(default)]
    format: Format,
}

/// A question, as a query or as JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    question: Which,
    #[serde(default)]
    format: Format,
    role: Option<String>,
    repository: Option<String>,
    at: Option<String>,
    from: Option<String>,
    to: Option<String>,
    since: Option<String>,
    /// Path and text of each file of a mapping folder.
    folder: Option<BTreeMap<String, String>>,
    /// What the folder is called in the answer.
    name: Option<String>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Which {
    Access,
    Unused,
    Plan,
}

/// The parameters of a URL. Each stands there once, and none is unknown.
fn query<T: DeserializeOwned>(request: &HttpRequest) -> Result<T, Reply> {
    actix_web::web::Query::<T>::from_query(request.query_string())
        .map(actix_web::web::Query::into_inner)
        .map_err(|error| say::invalid(&format!("the parameters cannot be read: {error}")))
}

/// `GET /operator/decisions/{id}`: the record, and the evaluation made again.
pub async fn decision(request: HttpRequest, id: Path<String>, shared: Data<Shared>) -> HttpResponse {
    respond(explained(&request, &id, &shared).await)
}

async fn explained(request: &HttpRequest, id: &str, shared: &Shared) -> Result<Reply, Reply> {
    let id: DecisionId = id.parse().map_err(|_| say::invalid("a decision's id is a UUID"))?;
    let One { format } = query(request)?;
    let told = ask(shared, Reads::Short, move |log| history::decision::answer(&*log.reader, id, format)).await?;
    let nothing = "there is no such decision; refusals beyond their rate stand in a sum alone";
    Ok(answered(told.ok_or_else(|| say::not_found(nothing))?))
}

/// `GET /operator/decisions`: records by what they are about, the latest first.
pub async fn decisions(request: HttpRequest, shared: Data<Shared>) -> HttpResponse {
    respond(page(&request, &shared).await)
}

async fn page(request: &HttpRequest, shared: &Shared) -> Result<Reply, Reply> {
    let asked: Page = query(request)?;
    let limit = asked.limit.unwrap_or(PAGE);
    if limit == 0 || limit > PAGE_MAX {
        return Err(say::invalid(&format!("`limit` is a number from 1 to {PAGE_MAX}")));
    }
    let time = |text: &Option<String>| text.as_deref().map(moment).transpose().map_err(|why| say::invalid(&why));
    let lease = asked.lease.map(|lease| lease.parse().map_err(|_| say::invalid("a lease's id is a UUID")));
    let wanted = Wanted {
        from: time(&asked.from)?.map(|from| from.first()),
        to: time(&asked.to)?.map(|to| to.last()),
        repository: asked.repository,
        principal: asked.principal,
        actor: asked.actor,
        role: asked.role,
        mapping: asked.mapping,
        lease: lease.transpose()?,
        initiator: asked.initiator,
        approver: asked.approver,
        handle: asked.handle,
        outcome: asked.outcome,
    };
    let found = ask(shared, Reads::Short, move |log| Ok(find::page(log, &wanted, asked.cursor, limit)?)).await?;
    Ok(say::ok(&json!({ "records": found.records, "next": found.next })))
}

/// `GET /operator/history`: who could and did, what nobody used.
pub async fn history(request: HttpRequest, shared: Data<Shared>) -> HttpResponse {
    respond(match query(&request) {
        Ok(question) => asked(question, &shared).await,
        Err(reply) => Err(reply),
    })
}

/// `POST /operator/history`: the same, and what needs a mapping folder.
pub async fn history_of(request: HttpRequest, shared: Data<Shared>) -> HttpResponse {
    respond(match limit::json(&request, &shared, FOLDER_BODY_BYTES_MAX).await {
        Ok(question) => asked(question, &shared).await,
        Err(reply) => Err(reply),
    })
}

async fn asked(question: Question, shared: &Shared) -> Result<Reply, Reply> {
    let now = shared.front.now();
    let Question { question: which, format, role, repository, at, from, to, since: ago, folder, name } = question;
    let only = |wanted: bool, what: &str| match wanted {
        true => Ok(()),
        false => Err(say::invalid(&format!("this question has no {what}"))),
    };
    let told = match which {
        Which::Access => {
            only(folder.is_none() && ago.is_none(), "`folder` or `since`")?;
            let time =
                |text: &Option<String>| text.as_deref().map(moment).transpose().map_err(|why| say::invalid(&why));
            let (at, from, to) = (time(&at)?, time(&from)?, time(&to)?);
            ask(shared, Reads::Long, move |log| {
                let (role, repository) = (role.as_deref(), repository.as_deref());
                access::answer(log, &access::Question { role, repository, at, from, to }, now.0, format)
            })
            .await?
        }
        Which::Unused | Which::Plan => {
            let no_time = at.is_none() && from.is_none() && to.is_none();
            only(role.is_none() && repository.is_none() && no_time, "`role`, `repository`, `at`, `from` or `to`")?;
            let from = began(ago.as_deref(), now)?;
            let name = name.unwrap_or_else(|| "the folder that was sent".to_owned());
            match (which, folder) {
                (Which::Plan, Some(head)) => {
                    ask(shared, Reads::Long, move |log| plan::answer(log, &name, &compiled(head)?, from, format))
                        .await?
                }
                (Which::Plan, None) => return Err(say::invalid("`plan` needs the proposed `folder`, by POST")),
                (_, given) => {
                    ask(shared, Reads::Long, move |log| {
                        let given = given.map(compiled).transpose()?.map(|folder| (folder, name));
                        unused::answer(log, given, from, format)
                    })
                    .await?
                }
            }
        }
    };
    Ok(answered(told))
}

fn began(ago: Option<&str>, now: UnixSeconds) -> Result<i64, Reply> {
    let Seconds(seconds) = since(ago.unwrap_or(history::log::SINCE)).map_err(|why| say::invalid(&why))?;
    Ok(now.plus(-i64::from(seconds)).0)
}

/// Not on a worker: a large folder takes a second.
fn compiled(files: BTreeMap<String, String>) -> anyhow::Result<Loaded> {
    let folder = Folder { files: files.into_iter().map(|(path, text)| (path, text.into_bytes())).collect() };
    let loaded = load(&folder, &Profiles::builtin());
    let set = loaded.set.context("the folder does not load here; `claimbound check` says why")?;
    Ok(Loaded { folder, set, profiles: loaded.profiles })
}

fn answered(told: Told) -> Reply {
    say::ok(&match told.answer {
        Answer::Text(text) => json!({ "code": told.code, "text": text }),
        Answer::Json(answer) => json!({ "code": told.code, "answer": answer }),
    })
}

/// Asks where waiting holds up nobody; only so many at once.
async fn ask<T: Send + 'static>(
    shared: &Shared,
    reads: Reads,
    ask: impl FnOnce(&Log) -> anyhow::Result<T> + Send + 'static,
) -> Result<T, Reply> {
    let asked = broker(shared)?.question(reads, move |reader| ask(&Log::new(reader.clone()))).await;
    asked.ok_or_else(say::unavailable)?.map_err(|error| match error.downcast_ref::<Down>() {
        Some(down) => {
            tracing::error!(error = %down, "a question to the evidence cannot be answered");
            say::unavailable()
        }
        None => say::invalid(&format!("{error:#}")),
    })
}
