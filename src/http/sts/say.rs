//! STS's answers as XML, with the elements that AWS's own have
//! (<https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html>).

use crate::{
    broker::{Answer, CallerIdentity},
    exchange::WebIdentity,
    http::answer::Noted,
    issuance::AwsSession,
};
use actix_web::{
    HttpResponse,
    http::{StatusCode, header},
};
use std::fmt::Write as _;
use zeroize::Zeroizing;

const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

/// An answer, ready to be sent; never cached.
pub(super) struct Said {
    status: u16,
    code: &'static str,
    id: String,
    body: Zeroizing<String>,
    retry_after_seconds: Option<u32>,
    pub(super) noted: Noted,
    /// The rest of the request is not read.
    pub(super) close: bool,
}

impl Said {
    fn new(status: u16, code: &'static str, id: &str, body: Zeroizing<String>) -> Self {
        let (retry_after_seconds, noted, close) = (None, Noted::default(), false);
        Self { status, code, id: id.to_owned(), body, retry_after_seconds, noted, close }
    }

    /// A refusal, which no client sends again.
    pub(super) fn refused(status: u16, code: &'static str, text: &str, id: &str) -> Self {
        Self::new(status, code, id, error("Sender", code, text, id))
    }

    /// Nobody can say yes or no right now.
    pub(super) fn unavailable(text: &str, id: &str, retry_after_seconds: Option<u32>) -> Self {
        let code = "ServiceUnavailable";
        Self { retry_after_seconds, ..Self::new(503, code, id, error("Receiver", code, text, id)) }
    }

    /// Before anything was judged.
    pub(super) fn throttled(text: &str, id: &str, retry_after_seconds: Option<u32>) -> Self {
        Self { retry_after_seconds, ..Self::refused(429, "Throttling", text, id) }
    }

    /// AWS's error code; `ok` for what was asked for.
    pub(super) fn code(&self) -> &'static str {
        self.code
    }

    /// As actix sends it.
    pub(super) fn respond(self) -> HttpResponse {
        let status = StatusCode::from_u16(self.status).expect("the statuses of answers are valid");
        let mut response = HttpResponse::build(status);
        response
            .insert_header((header::CONTENT_TYPE, "text/xml"))
            .insert_header((header::CACHE_CONTROL, "no-store"))
            .insert_header((header::PRAGMA, "no-cache"))
            .insert_header(("x-amzn-requestid", self.id));
        if let Some(seconds) = self.retry_after_seconds {
            response.insert_header((header::RETRY_AFTER, seconds));
        }
        if self.close {
            response.force_close();
        }
        let mut response = response.body(self.body.as_bytes().to_vec());
        response.extensions_mut().insert(self.noted);
        response
    }
}

/// Keys of a session.
pub(super) fn session(answer: &Answer, session: &AwsSession, whom: &WebIdentity, audience: &str) -> Said {
    let mut xml = Xml::new("AssumeRoleWithWebIdentity");
    xml.text("SubjectFromWebIdentityToken", &whom.subject);
    xml.text("Audience", audience);
    xml.open("AssumedRoleUser");
    xml.text("Arn", &session.assumed_role_arn);
    xml.text("AssumedRoleId", &session.assumed_role_id);
    xml.close("AssumedRoleUser");
    xml.open("Credentials");
    xml.text("AccessKeyId", &session.access_key_id);
    xml.text("SecretAccessKey", session.secret_access_key.reveal());
    xml.text("SessionToken", session.session_token.reveal());
    xml.text("Expiration", &session.expires.rfc3339());
    xml.close("Credentials");
    xml.text("SourceIdentity", &session.source_identity);
    // AWS always says it; an emulator may not.
    xml.text("PackedPolicySize", &session.room.policies.unwrap_or(0).to_string());
    xml.text("Provider", &whom.provider);
    if let Some(percent) = session.room.token {
        xml.text("SessionTokenUtilization", &percent.to_string());
    }
    xml.text("SessionTokenSize", &session.session_token.reveal().len().to_string());
    let id = super::id(answer.id.0);
    Said::new(200, "ok", &id, xml.end("AssumeRoleWithWebIdentity", &id))
}

/// Whose keys they are.
pub(super) fn identity(identity: &CallerIdentity, id: &str) -> Said {
    let mut xml = Xml::new("GetCallerIdentity");
    xml.text("Arn", &identity.arn);
    xml.text("UserId", &identity.user_id);
    xml.text("Account", &identity.account);
    Said::new(200, "ok", id, xml.end("GetCallerIdentity", id))
}

fn error(kind: &str, code: &str, text: &str, id: &str) -> Zeroizing<String> {
    let mut xml = Xml(Zeroizing::new(format!("<ErrorResponse xmlns=\"{NAMESPACE}\">")));
    xml.open("Error");
    xml.text("Type", kind);
    xml.text("Code", code);
    xml.text("Message", text);
    xml.close("Error");
    xml.text("RequestId", id);
    xml.close("ErrorResponse");
    xml.0
}

/// Room for keys and their names; a text that grows leaves copies of them behind.
const ANSWER_BYTES: usize = 16 * 1024;

/// XML as it grows. Names of elements are ours, texts are anybody's.
struct Xml(Zeroizing<String>);

impl Xml {
    fn new(action: &str) -> Self {
        let mut xml = Self(Zeroizing::new(String::with_capacity(ANSWER_BYTES)));
        let _ = write!(xml.0, "<{action}Response xmlns=\"{NAMESPACE}\"><{action}Result>");
        xml
    }
    fn open(&mut self, name: &str) {
        let _ = write!(self.0, "<{name}>");
    }
    fn close(&mut self, name: &str) {
        let _ = write!(self.0, "</{name}>");
    }
    /// XML 1.0 has no way to write most control characters: they are left out.
    fn text(&mut self, name: &str, text: &str) {
        self.open(name);
        for letter in text.chars() {
            match letter {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\u{fffe}' | '\u{ffff}' => {}
                letter if letter.is_control() => {}
                letter => self.0.push(letter),
            }
        }
        self.close(name);
    }
    fn end(mut self, action: &str, id: &str) -> Zeroizing<String> {
        let _ = write!(self.0, "</{action}Result><ResponseMetadata>");
        self.text("RequestId", id);
        let _ = write!(self.0, "</ResponseMetadata></{action}Response>");
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn texts_end_no_element() {
        let said = Said::refused(403, "AccessDenied", "a <b>&\"c\"\n\u{0}</Message>", "id");
        assert!(
            said.body.contains("<Message>a &lt;b&gt;&amp;&quot;c&quot;&lt;/Message&gt;</Message>"),
            "{}",
            *said.body
        );
    }

    proptest! {
        #[test]
        fn whatever_stands_in_a_text_there_are_as_many_elements(text in "\\PC{0,40}") {
            let body = error("Sender", "C", &text, "id");
            prop_assert_eq!(body.matches('<').count(), 12);
            prop_assert_eq!(body.matches('>').count(), 12);
        }
    }
}
