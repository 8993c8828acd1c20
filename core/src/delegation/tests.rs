use super::*;
use crate::workload::Claim;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

fn party(issuer: &str, claims: Json) -> Workload<'static> {
    let sub = claims["sub"].as_str().unwrap_or_default().to_owned();
    let mut workload = Workload::named(issuer.to_owned(), "", &sub);
    workload.raw = Claims::parse(claims.to_string().as_bytes()).unwrap().into_owned();
    workload
}

fn principal(more: &[(&str, Json)]) -> Workload<'static> {
    let mut claims = json!({ "iss": "https://ci.example", "sub": "job" });
    more.iter().for_each(|(name, value)| claims[*name] = value.clone());
    party("ci", claims)
}

fn agent(sub: &str) -> Workload<'static> {
    party("cluster", json!({ "iss": "https://cluster.example", "sub": sub }))
}

fn name_of(url: &str) -> Option<String> {
    url.strip_prefix("https://").and_then(|host| host.strip_suffix(".example")).map(str::to_owned)
}

fn made(principal: Workload<'static>, actor: Option<Workload<'static>>) -> Result<Vec<(String, String)>, Reason> {
    let case = chain(principal, actor, true, name_of).map_err(|error| error.reason())?;
    let told = |actor: &Workload<'_>| (actor.issuer.to_string(), actor.text(Claim::Subject).unwrap().to_owned());
    Ok(case.actors.iter().map(told).collect())
}

/// `act` of these parties, the outermost first.
fn act(parties: &[(String, String)]) -> Option<Json> {
    parties.iter().rev().fold(None, |inner, (iss, sub)| {
        let mut act = json!({ "iss": iss, "sub": sub, "admin": true });
        if let Some(inner) = inner {
            act["act"] = inner;
        }
        Some(act)
    })
}

fn parties(count: usize) -> Vec<(String, String)> {
    (0..count).map(|at| ("https://x.example".to_owned(), format!("a{at}"))).collect()
}

#[test]
fn nobody_acts_unless_somebody_does() {
    assert_eq!(made(principal(&[]), None), Ok(vec![]));
    assert_eq!(made(principal(&[]), Some(agent("bot"))), Ok(vec![("cluster".into(), "bot".into())]));
}

#[test]
fn may_act_names_the_actor_by_issuer_and_subject_or_refuses() {
    let of = |may_act: Json| made(principal(&[("may_act", may_act)]), Some(agent("bot")));
    let bot = json!({ "iss": "https://cluster.example", "sub": "bot" });
    assert!(of(bot.clone()).is_ok());
    assert!(of(json!({ "iss": "https://cluster.example", "sub": "bot", "email": "x" })).is_ok());
    for may_act in [
        json!({ "iss": "https://other.example", "sub": "bot" }),
        json!({ "iss": "https://cluster.example", "sub": "bot2" }),
        json!({ "iss": "cluster", "sub": "bot" }),
        json!({ "sub": "bot" }),
        json!({ "iss": "https://cluster.example" }),
        json!({ "iss": "https://cluster.example", "sub": "*" }),
        json!({ "iss": ["https://cluster.example"], "sub": "bot" }),
        json!({ "iss": "https://cluster.example", "sub": 7 }),
        json!({}),
        json!([bot]),
        json!("bot"),
        json!(true),
        Json::Null,
    ] {
        assert_eq!(of(may_act.clone()), Err(Reason::MayAct), "{may_act}");
        assert_eq!(made(principal(&[("may_act", may_act)]), None), Err(Reason::MayAct));
    }
    assert_eq!(made(principal(&[("may_act", bot)]), None), Err(Reason::MayAct), "nobody acts");
}

#[test]
fn an_actor_that_is_acted_for_itself_is_refused() {
    for (name, value) in [("act", json!({ "sub": "x" })), ("may_act", json!({ "sub": "x" })), ("act", Json::Null)] {
        let mut claims = json!({ "iss": "https://cluster.example", "sub": "bot" });
        claims[name] = value;
        assert_eq!(made(principal(&[]), Some(party("cluster", claims))), Err(Reason::ActorNotAllowed), "{name}");
    }
}

#[test]
fn an_act_claim_counts_where_its_issuer_is_trusted_for_it() {
    let carried = || principal(&[("act", json!({ "iss": "https://x.example", "sub": "a" }))]);
    for actor in [None, Some(agent("bot"))] {
        assert_eq!(chain(carried(), actor, false, name_of), Err(DelegationError::Carried));
    }
    assert_eq!(made(carried(), None), Ok(vec![("x".into(), "a".into())]));
    assert_eq!(made(carried(), Some(agent("bot"))).unwrap()[0].1, "bot", "the new actor is the outermost");
    for act in [
        json!({ "sub": "a" }),
        json!({ "iss": "https://x.example" }),
        json!({ "iss": "", "sub": "a" }),
        json!({ "iss": "https://x.example", "sub": "a\u{7}" }),
        json!({ "iss": "https://x.example", "sub": "a", "act": "b" }),
        json!({ "iss": "https://x.example", "sub": "a", "act": null }),
        json!([]),
        json!("a"),
        Json::Null,
    ] {
        assert_eq!(made(principal(&[("act", act.clone())]), None), Err(Reason::ActMalformed), "{act}");
    }
    let unknown = principal(&[("act", json!({ "iss": "urn:x", "sub": "a" }))]);
    assert_eq!(made(unknown, None), Ok(vec![("urn:x".into(), "a".into())]), "called by its URL, which is no name");
}

#[test]
fn nobody_stands_twice() {
    let own = ("https://ci.example".to_owned(), "job".to_owned());
    let bot = ("https://cluster.example".to_owned(), "bot".to_owned());
    let carried = |parties: &[(String, String)]| principal(&[("act", act(parties).unwrap())]);
    assert_eq!(made(carried(&[own]), None), Err(Reason::ActorRepeated));
    assert_eq!(made(carried(std::slice::from_ref(&bot)), Some(agent("bot"))), Err(Reason::ActorRepeated));
    let between = ("https://x.example".to_owned(), "a".to_owned());
    assert_eq!(made(carried(&[bot.clone(), between, bot]), None), Err(Reason::ActorRepeated));
    assert_eq!(made(principal(&[]), Some(principal(&[]))), Err(Reason::ActorRepeated), "a job acts for itself");
}

#[test]
fn five_act_and_six_do_not() {
    let carried = |count: usize| principal(&[("act", act(&parties(count)).unwrap())]);
    assert_eq!(made(carried(5), None).unwrap().len(), 5);
    assert_eq!(made(carried(4), Some(agent("bot"))).unwrap().len(), 5);
    assert_eq!(made(carried(6), None), Err(Reason::ChainTooLong));
    assert_eq!(made(carried(5), Some(agent("bot"))), Err(Reason::ChainTooLong));
}

#[test]
fn a_token_of_ours_is_exchanged_by_who_acts_and_by_nobody_else() {
    let act = json!({ "iss": "https://cluster.example", "sub": "first" });
    let text = json!({ "act": act }).to_string();
    let token = Claims::parse(text.as_bytes()).unwrap();
    let to = |actor, act| onward(principal(&[("may_act", act_of("first"))]), act, actor, "https://a.example", name_of);
    let case = to(Some(agent("second")), token.get("act")).unwrap();
    assert_eq!(case.via, Via::Downstream("https://a.example".into()));
    assert_eq!(subs(&case), ["second", "first"]);
    assert_eq!(to(None, token.get("act")), Err(DelegationError::Nobody));
    assert_eq!(to(Some(agent("first")), token.get("act")), Err(DelegationError::Repeated));
    assert_eq!(subs(&to(Some(agent("only")), None).unwrap()), ["only"]);
    let carries = party("cluster", json!({ "iss": "https://cluster.example", "sub": "x", "act": {} }));
    assert_eq!(to(Some(carries), None), Err(DelegationError::ActorCarries("act")));
}

fn act_of(sub: &str) -> Json {
    json!({ "iss": "https://cluster.example", "sub": sub })
}

fn subs(case: &Case<'_>) -> Vec<String> {
    case.actors.iter().map(|actor| actor.text(Claim::Subject).unwrap().to_owned()).collect()
}

#[test]
fn a_handoff_names_one_whom_the_jobs_own_token_takes() {
    let to = |claims: &[(&str, Json)], iss, sub| promised(principal(claims), (iss, sub), false, name_of);
    let case = to(&[], "https://cluster.example", "bot").unwrap();
    assert_eq!((&case.via, subs(&case), &*case.actors[0].issuer), (&Via::Handoff, vec!["bot".to_owned()], "cluster"));
    assert!(to(&[("may_act", act_of("bot"))], "https://cluster.example", "bot").is_ok());
    assert_eq!(to(&[("may_act", act_of("bot"))], "https://cluster.example", "x"), Err(DelegationError::MayActOther));
    assert_eq!(to(&[("act", act_of("bot"))], "https://cluster.example", "x"), Err(DelegationError::Carried));
    assert_eq!(to(&[], "https://ci.example", "job"), Err(DelegationError::Repeated), "itself");
    for (iss, sub) in [("", "x"), ("https://cluster.example", ""), ("https://cluster.example", "a\u{7}")] {
        assert_eq!(to(&[], iss, sub), Err(DelegationError::PromiseMalformed));
    }
}

proptest! {
    /// Any way of tokens of ours through any hands: who acted stands in the last case, the last outermost, or the way ends
    /// where a chain may not go on. What a token says is what the case says that it is made for.
    #[test]
    fn any_way_of_exchanges_keeps_principal_and_actors(hops in prop::collection::vec("[a-h]", 1..8)) {
        let mut carried: Option<Json> = None;
        let mut expected: Vec<String> = Vec::new();
        for hop in hops {
            let text = carried.as_ref().map_or(json!({}), |act| json!({ "act": act })).to_string();
            let token = Claims::parse(text.as_bytes()).unwrap();
            let made = onward(principal(&[]), token.get("act"), Some(agent(&hop)), "https://a.example", name_of);
            if expected.contains(&hop) || expected.len() == ACTORS_MAX {
                let why = made.map_err(|error| error.reason());
                prop_assert!(matches!(why, Err(Reason::ActorRepeated | Reason::ChainTooLong)), "{:?}", why);
                break;
            }
            let case = made.unwrap();
            expected.insert(0, hop);
            prop_assert_eq!(&subs(&case), &expected);
            prop_assert_eq!(case.principal.party(), ("https://ci.example", "job"));
            // As `issuance` writes it.
            carried = case.actors.iter().rev().fold(None, |inner, actor| {
                let (iss, sub) = actor.party();
                let mut act = json!({ "iss": iss, "sub": sub });
                if let Some(inner) = inner {
                    act["act"] = inner;
                }
                Some(act)
            });
        }
    }

    /// Whoever acts stands in the case, in the token's order, and nobody else does.
    #[test]
    fn the_order_stays_and_nobody_is_dropped(
        named in prop::collection::hash_set(("[a-c]{1,2}", "[a-z0-9:/@.]{1,12}"), 0..8),
        with_token in any::<bool>(),
    ) {
        let named: Vec<(String, String)> =
            named.into_iter().map(|(host, sub)| (format!("https://{host}.example"), sub)).collect();
        let more: Vec<(&str, Json)> = act(&named).map(|act| ("act", act)).into_iter().collect();
        let actor = with_token.then(|| agent("bot"));
        let mut expected: Vec<(String, String)> =
            named.iter().map(|(url, sub)| (name_of(url).unwrap(), sub.clone())).collect();
        if with_token {
            expected.insert(0, ("cluster".into(), "bot".into()));
        }
        let made = made(principal(&more), actor);
        if expected.len() > ACTORS_MAX {
            prop_assert_eq!(made, Err(Reason::ChainTooLong));
        } else {
            prop_assert_eq!(made, Ok(expected));
        }
    }
}
