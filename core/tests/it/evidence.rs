//! What evidence promises: one encoding, and a verifier that misses no change.

use claimbound_core::{
    evidence::{
        Body, Chain, DecisionId, Details, Eased, Entry, LeaseId, Party, Record, SuspensionId, What,
        audit::{Row, Verifier, Wrong},
        chain::{self, ORIGIN},
        decision_of, details_digest, hex, record,
    },
    reason::Reason,
    time::UnixSeconds,
};
use proptest::prelude::*;

const DECISION: DecisionId = DecisionId(0x0193_8c5e_6d7a_7000_8000_0000_0000_0001);
const LEASE: LeaseId = LeaseId(0x0193_8c5e_6d7a_7000_8000_0000_0000_0002);
const JOB: Party<'_> = Party { issuer: "github", id: "42", name: "acme/payments" };

fn record(what: What<'_>) -> Record<'_> {
    Record {
        decision: Some(DECISION),
        at: UnixSeconds(1_800_000_000),
        what,
        principal: Some(JOB),
        actor: None,
        mappings_version: Some([7; 32]),
    }
}

fn details(text: &str) -> Details {
    let mut details = Details::default();
    details.json.insert("initiator".into(), text.into());
    details
}

fn granted() -> What<'static> {
    What::Granted {
        mapping: "payments/deploy",
        role: "deploy",
        lease: LEASE,
        parent: None,
        how: None,
        handle: Some("jti-1"),
        expires: UnixSeconds(1_800_000_900),
        family: None,
        ceremony: None,
        eased: Eased::default(),
    }
}

#[test]
fn each_kind_has_its_one_encoding() {
    let summed = What::Summed { reason: Reason::Stranger, issuer: None, count: 9, from: UnixSeconds(1) };
    let cases = [
        (
            granted(),
            r#""kind":"granted","role":"deploy","mapping":"payments/deploy","lease":"01938c5e-6d7a-7000-8000-000000000002","handle":"jti-1","expires":1800000900"#,
        ),
        (What::DryRun { mapping: "m", role: "r" }, r#""kind":"dry_run","role":"r","mapping":"m""#),
        (
            What::Refused { reason: Reason::NoMapping, role: Some("r"), mapping: None },
            r#""kind":"refused","reason":"no_mapping","role":"r""#,
        ),
        (summed, r#""kind":"summed","reason":"stranger","count":9,"from":1"#),
        (
            What::Settled { lease: LEASE, state: "issued", handle: None },
            r#""kind":"settled","lease":"01938c5e-6d7a-7000-8000-000000000002","state":"issued""#,
        ),
        (
            What::Ended { lease: LEASE, how: "revoked", effect: "at_expiry", children: 0 },
            r#""kind":"ended","lease":"01938c5e-6d7a-7000-8000-000000000002","how":"revoked","effect":"at_expiry""#,
        ),
        (
            What::MappingsActivated { version: [0xab; 32], configuration: [0xac; 32] },
            r#""kind":"mappings_activated","version":"abababababababababababababababababababababababababababababababab","configuration":"acacacacacacacacacacacacacacacacacacacacacacacacacacacacacacacac""#,
        ),
        (
            What::Suspended {
                suspension: SuspensionId(7),
                scope: "repository",
                issuer: Some("github"),
                subject: Some("42"),
                until: Some(UnixSeconds(9)),
                replaces: Some(SuspensionId(6)),
            },
            r#""kind":"suspended","suspension":"00000000-0000-0000-0000-000000000007","scope":"repository","subject":"42","until":9,"replaces":"00000000-0000-0000-0000-000000000006","issuer":"github""#,
        ),
        (
            What::Resumed { suspension: SuspensionId(7) },
            r#""kind":"resumed","suspension":"00000000-0000-0000-0000-000000000007""#,
        ),
        (
            What::Cut { backend: "aws", scope: "role", subject: "deploy", until: UnixSeconds(9) },
            r#""kind":"cut","backend":"aws","scope":"role","subject":"deploy","until":9"#,
        ),
        (
            What::DenialsApplied { backend: "aws", version: "v7", count: 2 },
            r#""kind":"denials_applied","backend":"aws","count":2,"version":"v7""#,
        ),
        (
            What::Adopted { epoch: 2, store: 42, how: "accepted_loss", lost: Some(7) },
            r#""kind":"adopted","how":"accepted_loss","epoch":2,"store":"00000000-0000-0000-0000-00000000002a","lost":7"#,
        ),
        (What::Started { version: "0.1.0" }, r#""kind":"started","version":"0.1.0""#),
        (
            What::SigningKey { kid: "k", algorithm: "ES256", state: "made" },
            r#""kind":"signing_key","state":"made","kid":"k","algorithm":"ES256""#,
        ),
    ];
    for (what, told) in cases {
        let kind = what.kind();
        let entry = record(what).seal(&Details::default(), [1; 32]);
        let expected = format!(
            r#"{{"v":1,"decision":"01938c5e-6d7a-7000-8000-000000000001","at":1800000000,{told},"principal":{{"issuer":"github","id":"42","name":"acme/payments"}},"actor":null,"mappings":"{}"}}"#,
            "07".repeat(32)
        );
        assert_eq!(std::str::from_utf8(&entry.body).unwrap(), expected);
        assert!(entry.details.is_empty());
        assert_eq!(entry.leaf, record::leaf(&entry.body));
        let body = Body::parse(&entry.body).unwrap();
        assert_eq!((body.kind.as_ref(), body.decision), (kind, Some(DECISION)));
        assert_eq!(serde_json::to_string(&body).unwrap(), expected, "reading and writing are the same");
        assert_eq!(decision_of(&entry.body), Some(DECISION));
    }
}

#[test]
fn what_made_a_grant_easier_stands_in_its_body() {
    let What::Granted { mapping, role, lease, parent, how, handle, expires, family, .. } = granted() else {
        panic!("a grant")
    };
    let eased = Eased { exceptions: &["any_event", "any_repository"], renamed: Some("acme/old") };
    let ceremony = None;
    let entry = record(What::Granted { mapping, role, lease, parent, how, handle, expires, family, ceremony, eased })
        .seal(&Details::default(), [1; 32]);
    let text = std::str::from_utf8(&entry.body).unwrap();
    let told =
        r#""mapping":"payments/deploy","exceptions":["any_event","any_repository"],"renamed":"acme/old","lease":"#;
    assert!(text.contains(told), "{text}");
    let body = Body::parse(&entry.body).unwrap();
    assert_eq!(serde_json::to_string(&body).unwrap(), text, "reading and writing are the same");
    // One that says neither is what it was before there were any.
    let plain = record(granted()).seal(&Details::default(), [1; 32]);
    assert!(!String::from_utf8_lossy(&plain.body).contains("exceptions"));
}

#[test]
fn a_record_that_is_no_answer_has_no_decision() {
    let entry = Record {
        decision: None,
        at: UnixSeconds(5),
        what: What::Started { version: "0.1.0" },
        principal: None,
        actor: Some(JOB),
        mappings_version: None,
    }
    .seal(&Details::default(), [0; 32]);
    assert_eq!(
        std::str::from_utf8(&entry.body).unwrap(),
        r#"{"v":1,"decision":null,"at":5,"kind":"started","version":"0.1.0","principal":null,"actor":{"issuer":"github","id":"42","name":"acme/payments"},"mappings":null}"#
    );
    assert_eq!(decision_of(&entry.body), None);
}

#[test]
fn details_stand_outside_the_body_behind_a_salt() {
    let mut told = details("Ada \"the\" first");
    told.json.insert("salt".into(), "not ours".into());
    let entry = record(granted()).seal(&told, [0x5a; 32]);
    let text = std::str::from_utf8(&entry.details).unwrap();
    assert_eq!(text, format!(r#"{{"salt":"{}","initiator":"Ada \"the\" first"}}"#, "5a".repeat(32)));
    assert!(!String::from_utf8_lossy(&entry.body).contains("Ada"));
    let digest = details_digest(&entry.details).unwrap();
    assert_eq!(Body::parse(&entry.body).unwrap().details.as_deref(), Some(hex(&digest).as_str()));
    let other = record(granted()).seal(&told, [0x5b; 32]);
    assert_ne!(entry.leaf, other.leaf, "the salt hides equal details");
}

#[test]
fn a_body_of_another_form_is_refused() {
    let entry = record(granted()).seal(&Details::default(), [0; 32]);
    let good = std::str::from_utf8(&entry.body).unwrap();
    let bad = [
        good.replace(r#""v":1"#, r#""v":2"#),
        good.replace(r#""actor":null,"#, ""),
        good.replace(r#""actor":null"#, r#""actor":null,"more":1"#),
        good.replace(r#""at":1800000000"#, r#""at":"now""#),
        good.replace(r#""lease":"0"#, r#""lease":"x"#),
        format!("{good} {{}}"),
        String::new(),
    ];
    for text in bad {
        assert!(Body::parse(text.as_bytes()).is_err(), "{text}");
    }
    assert_eq!(
        Body::parse(good.replace(r#""v":1"#, r#""v":2"#).as_bytes()).unwrap_err().to_string(),
        "record version 2 is not one that this program reads"
    );
}

#[derive(Clone, Debug)]
struct Kept {
    incarnation: u128,
    sequence: u64,
    link: [u8; 32],
    entry: Entry,
}

/// A chain with as many records per incarnation as `lengths` says.
fn chain_of(lengths: &[u8]) -> Vec<Kept> {
    let mut rows = Vec::new();
    let mut head = ORIGIN;
    for (incarnation, length) in lengths.iter().enumerate() {
        let mut chain = Chain { incarnation: incarnation as u128 + 100, sequence: 0, head };
        for number in 0..*length {
            let text = format!("{incarnation}/{number}");
            let told = if number % 3 == 2 { Details::default() } else { details(&text) };
            let what = What::Refused { reason: Reason::NoMapping, role: Some(&text), mapping: None };
            let linked = chain.link(record(what).seal(&told, [number; 32]));
            rows.push(Kept {
                incarnation: chain.incarnation,
                sequence: linked.sequence,
                link: linked.link,
                entry: linked.entry,
            });
        }
        head = chain.head;
    }
    rows
}

/// Verifies; on refusal the index of the record named and what is wrong.
fn verify(rows: &[Kept]) -> Result<Verifier, (usize, Wrong)> {
    let mut verifier = Verifier::new();
    for (index, kept) in rows.iter().enumerate() {
        let row = Row {
            position: index as i64 + 1,
            incarnation: kept.incarnation,
            sequence: kept.sequence,
            link: kept.link,
            leaf: kept.entry.leaf,
            body: &kept.entry.body,
            details: &kept.entry.details,
        };
        verifier.check(&row).map_err(|bad| {
            assert_eq!((bad.position, bad.sequence), (index as i64 + 1, kept.sequence));
            (index, bad.wrong)
        })?;
    }
    Ok(verifier)
}

#[test]
fn the_link_is_what_the_documentation_says() {
    let rows = chain_of(&[1]);
    let mut bytes = b"claimbound evidence link v1\n".to_vec();
    bytes.extend(100_u128.to_be_bytes());
    bytes.extend(1_u64.to_be_bytes());
    bytes.extend([0; 32]);
    bytes.extend(rows[0].entry.leaf);
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes);
    assert_eq!(rows[0].link, digest.as_ref());
}

#[test]
fn a_whole_chain_verifies_also_with_details_erased() {
    let mut rows = chain_of(&[4, 1, 3]);
    let verifier = verify(&rows).unwrap();
    assert_eq!((verifier.records(), verifier.incarnations(), verifier.erased()), (8, 3, 0));
    assert_eq!(verifier.head(), rows[7].link);
    for kept in &mut rows {
        kept.entry.details = [].into();
    }
    let verifier = verify(&rows).unwrap();
    assert_eq!((verifier.erased(), verifier.head()), (6, rows[7].link));
}

#[test]
fn a_head_kept_elsewhere_shows_a_cut_tail() {
    let rows = chain_of(&[3]);
    let through = |rows: &[Kept], head| {
        let mut verifier = Verifier::new().expect(head);
        for (index, kept) in rows.iter().enumerate() {
            let row = Row {
                position: index as i64,
                incarnation: kept.incarnation,
                sequence: kept.sequence,
                link: kept.link,
                leaf: kept.entry.leaf,
                body: &kept.entry.body,
                details: &kept.entry.details,
            };
            verifier.check(&row).unwrap();
        }
        verifier.met()
    };
    assert_eq!(through(&rows, rows[1].link), Some(2));
    assert_eq!(through(&rows, rows[2].link), Some(3));
    assert_eq!(through(&rows[..2], rows[2].link), None);
    assert_eq!(through(&rows, ORIGIN), Some(0));
}

/// Two brokers beside each other, and a third that goes on from the second's first record.
#[test]
fn chains_of_several_brokers_verify_side_by_side() {
    let mut chains = [100, 101, 102].map(|incarnation| Chain { incarnation, sequence: 0, head: ORIGIN });
    let mut rows = Vec::new();
    for (number, at) in [0, 1, 0, 2, 1, 2, 0].into_iter().enumerate() {
        if number == 3 {
            chains[2].head = chains[1].head;
        }
        let what = What::Refused { reason: Reason::NoMapping, role: None, mapping: None };
        let linked = chains[at].link(record(what).seal(&Details::default(), [number as u8; 32]));
        let (incarnation, sequence) = (chains[at].incarnation, linked.sequence);
        rows.push(Kept { incarnation, sequence, link: linked.link, entry: linked.entry });
    }
    let begins = [(100, ORIGIN), (101, ORIGIN), (102, rows[1].link)];
    let walk = |rows: &[Kept], begins: &[(u128, [u8; 32])], expected: &[[u8; 32]]| {
        let mut verifier = expected.iter().fold(Verifier::new(), |verifier, head| verifier.expect(*head));
        begins.iter().for_each(|(incarnation, previous)| verifier.begins(*incarnation, *previous));
        for (index, kept) in rows.iter().enumerate() {
            let row = Row {
                position: index as i64,
                incarnation: kept.incarnation,
                sequence: kept.sequence,
                link: kept.link,
                leaf: kept.entry.leaf,
                body: &kept.entry.body,
                details: &kept.entry.details,
            };
            verifier.check(&row).map_err(|bad| (index, bad.wrong.to_string()))?;
        }
        Ok::<_, (usize, String)>(verifier)
    };
    let whole = walk(&rows, &begins, &[]).unwrap();
    assert_eq!((whole.records(), whole.incarnations(), whole.end(101)), (7, 3, Some((2, rows[4].link))));
    let mut heads = [rows[4].link, rows[5].link, rows[6].link];
    heads.sort_unstable();
    assert_eq!(whole.heads(), heads);
    assert_eq!(walk(&rows, &begins, &heads).unwrap().met(), Some(7));
    assert_eq!(walk(&rows[..6], &begins, &heads).unwrap().met(), None, "one of them was cut");
    let wrong = |begins: &[(u128, [u8; 32])]| walk(&rows, begins, &[]).unwrap_err();
    assert_eq!(wrong(&begins[..2]).0, 3, "never opened");
    assert_eq!(wrong(&[begins[0], begins[1], (102, rows[5].link)]).0, 3, "begins after its own first record");
    assert_eq!(wrong(&[begins[0], begins[1], (102, rows[0].link)]).0, 3, "begins elsewhere");
    let (index, told) = walk(&[&rows[..1], &rows[3..]].concat(), &begins, &[]).unwrap_err();
    assert!(index == 1 && told.contains("link"), "what it goes on from is gone: {told}");
}

#[test]
fn each_change_is_named_at_its_record() {
    let rows = chain_of(&[3, 3]);
    type Change = fn(&mut Vec<Kept>);
    let relink = |rows: &mut Vec<Kept>, at: usize| {
        let previous = rows[at - 1].link;
        let kept = &mut rows[at];
        kept.link = chain::link(kept.incarnation, kept.sequence, &previous, &kept.entry.leaf);
    };
    let cases: [(&str, Change, usize, &str); 13] = [
        ("body", |rows| rows[1].entry.body = edited(&rows[1].entry.body).into(), 1, "leaf"),
        ("leaf", |rows| rows[1].entry.leaf[0] ^= 1, 1, "leaf"),
        ("link", |rows| rows[1].link[31] ^= 1, 1, "link"),
        ("delete", |rows| drop(rows.remove(1)), 1, "missing"),
        ("delete an incarnation", |rows| drop(rows.drain(..3)), 0, "link"),
        ("delete an incarnation's first", |rows| drop(rows.remove(3)), 3, "missing"),
        ("reorder", |rows| rows.swap(1, 2), 1, "missing"),
        ("duplicate", |rows| rows.insert(2, rows[1].clone()), 2, "duplicate"),
        ("move behind a later incarnation", |rows| rows.swap(2, 3), 2, "link"),
        ("repeat behind a later incarnation", |rows| rows.push(rows[2].clone()), 6, "incarnation had ended"),
        ("edit details", |rows| rows[0].entry.details = edited(&rows[0].entry.details).into(), 0, "details"),
        (
            "swap details",
            |rows| {
                let one = rows[0].entry.details.clone();
                rows[0].entry.details = std::mem::replace(&mut rows[1].entry.details, one);
            },
            0,
            "details",
        ),
        ("add details", |rows| rows[2].entry.details = rows[0].entry.details.clone(), 2, "details"),
    ];
    for (name, change, at, wrong) in cases {
        let mut rows = rows.clone();
        change(&mut rows);
        let (index, found) = verify(&rows).expect_err(name);
        assert_eq!(index, at, "{name}: {found}");
        assert!(found.to_string().contains(wrong), "{name}: {found}");
    }
    // Whoever repairs leaf and link of one record breaks the next.
    let mut forged = rows.clone();
    let forgery = String::from_utf8(forged[1].entry.body.to_vec()).unwrap().replace("no_mapping", "denied");
    forged[1].entry.body = forgery.into_bytes().into();
    forged[1].entry.leaf = record::leaf(&forged[1].entry.body);
    relink(&mut forged, 1);
    assert!(matches!(verify(&forged), Err((2, Wrong::Link))));
}

/// The same bytes but for one digit.
fn edited(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let at = bytes.iter().rposition(u8::is_ascii_digit).expect("a digit");
    bytes[at] = if bytes[at] == b'9' { b'8' } else { bytes[at] + 1 };
    bytes
}

proptest! {
    #[test]
    fn any_text_survives_the_encoding(role in ".*", handle in ".*", id in ".*", said in ".*") {
        let entry = Record {
            decision: Some(DECISION),
            at: UnixSeconds(0),
            what: What::Granted {
                mapping: "m", role: &role, lease: LEASE, parent: None, how: None, handle: Some(&handle),
                expires: UnixSeconds(-1), family: None, ceremony: None,
                eased: Eased::default() },
            principal: Some(Party { issuer: "i", id: &id, name: "n" }),
            actor: None,
            mappings_version: None,
        }.seal(&details(&said), [3; 32]);
        let body = Body::parse(&entry.body).unwrap();
        prop_assert_eq!(body.role.as_deref(), Some(role.as_str()));
        prop_assert_eq!(body.handle.as_deref(), Some(handle.as_str()));
        prop_assert_eq!(body.principal.map(|named| named.id.into_owned()), Some(id));
        let told: serde_json::Value = serde_json::from_slice(&entry.details).unwrap();
        prop_assert_eq!(told["initiator"].as_str(), Some(said.as_str()));
    }

    #[test]
    fn no_single_byte_changes_unseen(
        lengths in proptest::collection::vec(1_u8..4, 1..4), at in any::<prop::sample::Index>(),
        field in 0..5, byte in any::<prop::sample::Index>(), flip in 1_u8..=255,
    ) {
        let mut rows = chain_of(&lengths);
        let at = at.index(rows.len());
        let kept = &mut rows[at];
        let mut body = kept.entry.body.to_vec();
        let mut told = kept.entry.details.to_vec();
        let target: &mut [u8] = match field {
            0 => &mut body,
            1 => &mut told,
            2 => &mut kept.entry.leaf,
            3 => &mut kept.link,
            _ => &mut [],
        };
        if target.is_empty() {
            kept.sequence ^= u64::from(flip);
        } else {
            let byte = byte.index(target.len());
            target[byte] ^= flip;
        }
        kept.entry.body = body.into();
        kept.entry.details = told.into();
        prop_assert_eq!(verify(&rows).expect_err("a change").0, at);
    }
}
