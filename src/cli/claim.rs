//! `claimbound claim`: what people do with what waits for them, on the command line. The broker judges it as on its pages; here
//! they sign in, see what is bound, and say yes or no. `reset` and `carry` are operators'.

use super::{
    ceremonies::{self, CarryArgs, ResetArgs},
    loaded,
    operator::{
        client::{Client, Failed},
        login,
        session::Kind,
    },
    render::Format,
};
use crate::{
    client::broker::url,
    http::claim::{Seen, Told, View},
};
use anyhow::{Context as _, Result, anyhow, bail};
use claimbound_core::ceremony::CeremonyId;
use clap::{Args, Subcommand};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::{
    io::{self, BufRead as _, IsTerminal as _, Read as _},
    path::PathBuf,
};

/// A code or a reason that somebody types: beyond this it is neither.
const TYPED_BYTES_MAX: u64 = 4096;
/// What stands before a value: longer names stand on a line of their own.
const COLUMN: usize = 20;

/// Claim what waits for people, and take claims back or carry them over
#[derive(Subcommand, Debug)]
pub enum ClaimCommand {
    Login(LoginArgs),
    Logout(LogoutArgs),
    List(ListArgs),
    Show(ShowArgs),
    Approve(ApproveArgs),
    Reject(RejectArgs),
    Reset(ResetArgs),
    Carry(CarryArgs),
}

/// Which broker.
#[derive(Args, Clone, Debug)]
struct At {
    /// The broker's public URL
    #[arg(long, value_name = "URL", env = "CLAIMBOUND_URL", value_parser = url)]
    url: String,
    /// Certificate authorities to trust beside the system's, PEM
    #[arg(long, value_name = "FILE", env = "CLAIMBOUND_CA_FILE")]
    ca_file: Option<PathBuf>,
}

/// How to answer.
#[derive(Args, Clone, Copy, Debug)]
struct As {
    /// How to answer
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// The same as `--format json`
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

/// Sign in, to claim
///
/// The broker sends you to the provider that its configuration names; the answer comes back to a port of this machine. The
/// session lasts 15 minutes and is kept in a file of your own, below `$XDG_RUNTIME_DIR` or `$XDG_STATE_HOME`. No operator's command takes it.
/// With `--device` you type a code anywhere else, and the session can only look: `list` and `show`. Exit code 0: signed in; 2:
/// usage, or nobody signed in in time; 3: refused; 4: the broker or its provider cannot be asked.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  claimbound claim login --url https://claimbound.example.com
  claimbound claim login --ceremony 6f1c0d3e5a7b49829c1d4e6f8a0b2c3d")]
pub struct LoginArgs {
    #[command(flatten)]
    at: At,
    #[command(flatten)]
    how: login::How,
    /// Sign in as freshly and strongly as this ceremony's role needs; asked for by whoever is signed in and was told to
    #[arg(long, value_name = "ID", conflicts_with = "device")]
    ceremony: Option<String>,
}

/// End the session
///
/// It ends at the broker and in the file. Exit code 0: it is over; 2: usage, or you are not signed in; 3: the broker does not know it
/// any more, and the file does not hold it any more; 4: the broker cannot be asked, and the file is as it was.
#[derive(Args, Debug)]
pub struct LogoutArgs {
    #[command(flatten)]
    at: At,
}

/// List what waits for you, and what did
///
/// Open ceremonies whose approver you are, and past ones until a day after their time. Exit code 0, whatever is found; 2: usage, or
/// you are not signed in; 3: the session is over; 4: the broker cannot be asked.
#[derive(Args, Debug)]
pub struct ListArgs {
    #[command(flatten)]
    at: At,
    #[command(flatten)]
    answer: As,
}

/// Show what a ceremony binds, and what is not proven
///
/// Changes nothing. In names every character that is not ASCII is told by its code point, `‹U+202E›`. Exit code 0; 2: usage, or you
/// are not signed in; 3: there is no such ceremony that you can claim, or the session is over; 4: the broker cannot be asked.
#[derive(Args, Debug)]
pub struct ShowArgs {
    /// The ceremony's id, or the link in the job's log
    #[arg(value_name = "CEREMONY")]
    ceremony: String,
    #[command(flatten)]
    at: At,
    #[command(flatten)]
    answer: As,
}

/// Claim a ceremony, with the match code from the job's log
///
/// Shows first what is bound, and asks for code and reason where they are not given. Open the log yourself, from your CI system, and
/// compare the three words. The broker judges as on its pages: your session, whether you are an approver, whether the job is your
/// own, and last the code; wrong codes are counted. Exit code 0: claimed by you; 2: usage, or you are not signed in; 3: refused; 4:
/// the broker cannot be asked.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  claimbound claim approve 6f1c0d3e5a7b49829c1d4e6f8a0b2c3d \\
    --code 4F7K-9QTX --reason 'release 1.2, CHG-812'")]
pub struct ApproveArgs {
    /// The ceremony's id, or the link in the job's log
    #[arg(value_name = "CEREMONY")]
    ceremony: String,
    /// The match code from the job's log; asked for if it is left out
    #[arg(long, value_name = "CODE")]
    code: Option<String>,
    /// Why, kept with the evidence under your name; asked for if it is left out
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    at: At,
}

/// Reject a ceremony, for everybody
///
/// Shows first what is asked, and asks for the reason where it is not given. Who started the job may reject it, too. Exit code 0: it is
/// rejected; 2: usage, or you are not signed in; 3: refused; 4: the broker cannot be asked.
#[derive(Args, Debug)]
pub struct RejectArgs {
    /// The ceremony's id, or the link in the job's log
    #[arg(value_name = "CEREMONY")]
    ceremony: String,
    /// Why, kept with the evidence under your name and told to who started the job; asked for if it is left out
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    at: At,
}

impl At {
    fn client(&self) -> Result<Client> {
        Client::new(Kind::Claim, self.url.clone(), self.ca_file.clone())
    }

    /// A ceremony by its id, or by a link of this very broker: a link alone never says whom to ask.
    fn ceremony(&self, given: &str) -> Result<CeremonyId> {
        let id = match given.strip_prefix(&format!("{}/claim/", self.url)) {
            Some(id) => id,
            None if given.contains("://") => bail!("`{given}` is no link of the broker `{}`", self.url),
            None => given,
        };
        id.parse().map_err(|_| {
            anyhow!(
                "`{id}` is no ceremony's id: give its 32 hexadecimal digits, with which the link in the job's log ends"
            )
        })
    }
}

impl As {
    fn is_json(self) -> bool {
        self.json || self.format == Format::Json
    }
}

/// Runs the command; the exit code.
///
/// # Errors
/// Whatever keeps it from being done; those of the broker are [`Failed`].
pub fn run(command: ClaimCommand) -> Result<u8> {
    match command {
        ClaimCommand::Login(LoginArgs { at, how, ceremony }) => {
            let ceremony = ceremony.map(|given| at.ceremony(&given)).transpose()?;
            login::run(&at.client()?, &how, ceremony)
        }
        ClaimCommand::Logout(LogoutArgs { at }) => login::out(&at.client()?),
        ClaimCommand::List(ListArgs { at, answer }) => {
            let found = at.client()?.get("/claim/api/ceremonies", &[])?;
            told(&match answer.is_json() {
                true => ascii(&found),
                false => listed(&found),
            })
        }
        ClaimCommand::Show(ShowArgs { ceremony, at, answer }) => {
            let found = shown(&at.client()?, at.ceremony(&ceremony)?)?;
            told(&match answer.is_json() {
                true => ascii(&found),
                false => text(&read::<Told>(found)?.view),
            })
        }
        ClaimCommand::Approve(args) => approve(&args),
        ClaimCommand::Reject(args) => reject(&args),
        ClaimCommand::Reset(args) => ceremonies::reset(args),
        ClaimCommand::Carry(args) => ceremonies::carry(args),
    }
}

fn told(text: &str) -> Result<u8> {
    loaded::print(text)?;
    Ok(0)
}

fn shown(client: &Client, id: CeremonyId) -> Result<Value> {
    client.get(&format!("/claim/api/ceremonies/{id}"), &[])
}

fn read<T: DeserializeOwned>(answer: Value) -> Result<T> {
    serde_json::from_value(answer).context("the broker's answer is of another version")
}

fn approve(args: &ApproveArgs) -> Result<u8> {
    let (client, id) = (args.at.client()?, args.at.ceremony(&args.ceremony)?);
    let view = read::<Told>(shown(&client, id)?)?.view;
    eprint!("{}", loaded::without_control(&text(&view)));
    if !view.may_claim {
        let why = match &view.weak {
            Some(weak) => format!("{weak}; sign in again: `claimbound claim login --ceremony {id}`"),
            None => format!("{} {}", view.status.short, view.status.long),
        };
        return Err(Failed::Refused(why).into());
    }
    let code = given(args.code.as_ref(), "--code", "Match code from the job's log")?;
    let reason = given(args.reason.as_ref(), "--reason", "Why you claim it")?;
    let path = format!("/claim/api/ceremonies/{id}/approve");
    let answer = client.post(&path, &json!({ "code": code, "reason": reason }))?;
    told(&match answer["missing"].as_u64() {
        Some(missing @ 1..) => format!("claimed by you; {missing} more must claim it\n"),
        _ => "claimed: nobody else is needed\n".to_owned(),
    })
}

fn reject(args: &RejectArgs) -> Result<u8> {
    let (client, id) = (args.at.client()?, args.at.ceremony(&args.ceremony)?);
    let view = read::<Told>(shown(&client, id)?)?.view;
    eprint!("{}", loaded::without_control(&text(&view)));
    let reason = given(args.reason.as_ref(), "--reason", "Why you reject it")?;
    client.post(&format!("/claim/api/ceremonies/{id}/reject"), &json!({ "reason": reason }))?;
    told("rejected\n")
}

/// What a flag gave, or else what somebody types.
fn given(flag: Option<&String>, name: &str, ask: &str) -> Result<String> {
    if let Some(given) = flag {
        return Ok(given.clone());
    }
    if !io::stdin().is_terminal() {
        bail!("give `{name}`: standard input is no terminal, so nobody can be asked for it");
    }
    eprint!("{ask}: ");
    let mut typed = String::new();
    io::stdin().lock().take(TYPED_BYTES_MAX).read_line(&mut typed)?;
    Ok(typed.trim().to_owned())
}

/// JSON in ASCII alone: what deceives in a name is an escape.
fn ascii(answer: &Value) -> String {
    let mut out = String::new();
    for letter in format!("{answer:#}\n").chars() {
        match letter.is_ascii() {
            true => out.push(letter),
            // Outside of texts JSON has no others.
            false => letter.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}"))),
        }
    }
    out
}

fn listed(found: &Value) -> String {
    let name = |value: &Value| Seen::name(value.as_str().unwrap_or_default()).to_text();
    let rows = |rows: &Value| {
        let rows = rows.as_array().into_iter().flatten().map(|one| {
            let yours = if one["claimed"] == true { ", yours among them" } else { "" };
            format!(
                "{}  {:<9}  {} for {}, {} of {}{yours}\n",
                name(&one["id"]),
                name(&one["state"]),
                name(&one["role"]),
                name(&one["principal"]),
                one["claims"],
                one["quorum"],
            )
        });
        rows.collect::<String>()
    };
    match rows(&found["open"]) + &rows(&found["past"]) {
        none if none.is_empty() => "nothing waits for you, and nothing did lately\n".to_owned(),
        some => some,
    }
}

/// What the page shows, for a terminal.
fn text(view: &View) -> String {
    let (name, prose) = (|text: &str| Seen::name(text).to_text(), |text: &str| indented(&Seen::prose(text).to_text()));
    let mut out = format!("{}\n{} {}\n", view.heading, view.status.short, view.status.long);
    let mut section = |heading: &str, lines: Vec<String>| {
        if !lines.is_empty() {
            out.push_str(&format!("\n{heading}\n{}", lines.concat()));
        }
    };
    let rows = |rows: &[(String, String)]| rows.iter().map(|(what, value)| row(&name(what), &name(value))).collect();
    let mut asked = vec![row("Role", &name(&view.role))];
    asked.extend(view.description.as_deref().map(|text| row("", &prose(text))));
    asked.extend(view.asked.iter().map(|(what, value)| row(what, &name(value))));
    section("What is asked", asked);
    let parties = view.parties.iter();
    let party = |name: String, id: String, issuer: String| format!("{name}  id {id} at {issuer}");
    let parties = parties.map(|one| row(&one.what, &party(name(&one.name), name(&one.id), name(&one.issuer))));
    section("Who asks", parties.collect());
    let opened = if view.remembered.is_empty() { "The job" } else { "The job that opened this" };
    section(&format!("{opened}, as its token says"), rows(&view.claims));
    let valid_for = view.valid_for.iter().map(|time| format!(", for {time}")).collect::<String>();
    let remembered = format!(
        "What will be remembered: from then on every job with all of these values gets this role without asking you again{valid_for}"
    );
    section(&remembered, rows(&view.remembered));
    if let Some(before) = &view.before {
        let heading = format!("What changed in the rule since it was claimed on {} by {}", before.at, name(&before.by));
        section(&heading, before.changes.iter().map(|text| format!("  - {}\n", prose(text))).collect());
    }
    section("What is not proven", view.unproven.iter().map(|text| format!("  - {text}\n")).collect());
    let said = view
        .said
        .iter()
        .map(|one| format!("  {}  {}, {}\n    {}\n", name(&one.id), prose(&one.name), one.at, prose(&one.reason)));
    section("Who claimed it", said.collect());
    if view.may_claim {
        let words = format!("  {}\n  Other words, or no such job: reject it. {}\n", view.words.join(" "), view.tries);
        section("Compare with the job's log, which you open yourself from your CI system", vec![words]);
    } else if let Some(weak) = &view.weak {
        section("You cannot claim it yet", vec![format!("  {weak}\n")]);
    }
    out.push('\n');
    out
}

fn row(what: &str, value: &str) -> String {
    let gap = if what.chars().count() > COLUMN { format!("\n  {:COLUMN$}", "") } else { String::new() };
    format!("  {what:<COLUMN$}{gap}  {value}\n")
}

/// Lines of a text, none of which stands where headings do.
fn indented(text: &str) -> String {
    text.replace('\n', &format!("\n{:1$}", "", COLUMN + 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_for_a_terminal_is_ascii_and_the_same() {
        let answer = json!({ "name": "a\u{202E}b\u{1F600}\"\\", "n": 1 });
        let text = ascii(&answer);
        assert!(text.is_ascii() && text.contains("a\\u202eb\\ud83d\\ude00"), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), answer);
    }

    #[test]
    fn a_ceremony_is_named_by_id_or_by_a_link_of_this_broker() {
        let at = At { url: "https://cb.example".into(), ca_file: None };
        let id = "0123456789abcdef0123456789abcdef";
        for given in [id.to_owned(), format!("https://cb.example/claim/{id}")] {
            assert_eq!(at.ceremony(&given).unwrap().to_string(), id);
        }
        for other in [&format!("https://evil.example/claim/{id}"), &format!("https://cb.example/other/{id}"), "x", ""] {
            assert!(at.ceremony(other).is_err(), "{other}");
        }
    }

    #[test]
    fn no_line_of_a_stranger_stands_where_ours_do() {
        let long = row("a-claim-whose-name-is-very-long", "value");
        assert_eq!(long, "  a-claim-whose-name-is-very-long\n                        value\n".to_owned());
        assert!(indented("one\nWhat is not proven").contains("\n                        What"), "{}", indented("a\nb"));
    }
}
