//! `application/x-www-form-urlencoded`, read strictly, and what the parameters of `/token` and `/revoke` mean.
//!
//! An own reader, because a lenient one is an attack surface: of a duplicate it takes the first or the last, and what
//! the next reader takes is another question. Here a duplicate refuses, whatever its spelling.

#[cfg(test)]
mod fuzz;

use crate::{
    broker::{Asked, AskedGrant},
    secret::Secret,
};
use aws_lc_rs::digest::{Context, SHA256};
use claimbound_core::time::Seconds;
use std::net::IpAddr;
use zeroize::Zeroizing;

/// One presented token, decoded.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// A parameter that holds no token.
pub const VALUE_BYTES_MAX: usize = 4 * 1024;
/// Parameters of one request.
pub const PARAMETERS_MAX: usize = 64;
/// A parameter's name.
pub const NAME_BYTES_MAX: usize = 128;

const GRANT_TOKENS: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const GRANT_POLL: &str = "urn:openid:params:grant-type:ciba";
const GRANT_REFRESH: &str = "refresh_token";
const TYPE_ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";
const TYPE_ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
/// RFC 8693 section 3: a JWT of whatever kind.
pub const TYPE_JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

/// A handoff: asked for as `requested_token_type`, and sent as `subject_token_type` by whom it is for.
pub const TYPE_HANDOFF: &str = "urn:claimbound:params:oauth:token-type:handoff";

/// Parameters that carry a secret: their own size limit, and nobody repeats their values.
const TOKENS: [&str; 6] = ["subject_token", "actor_token", "refresh_token", "auth_req_id", "token", "WebIdentityToken"];

/// Why a form is refused: told to whoever sent it, and about nothing but what was sent.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{text}")]
pub struct FormError {
    pub code: FormCode,
    /// Names the parameter and the remedy.
    pub text: String,
}

/// The OAuth error of a form error (RFC 6749 section 5.2, RFC 8693 section 2.2.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FormCode {
    InvalidRequest,
    InvalidTarget,
    InvalidScope,
    UnsupportedGrantType,
    /// A token beyond [`TOKEN_BYTES_MAX`]: answered 413.
    TooLarge,
}

fn invalid(text: impl Into<String>) -> FormError {
    FormError { code: FormCode::InvalidRequest, text: text.into() }
}

/// The decoded parameters. Wiped when dropped.
pub struct Form {
    /// Sorted by name; every name once.
    parameters: Vec<(String, Zeroizing<String>)>,
}

impl Form {
    /// Reads a whole body. An empty body has no parameters.
    pub fn parse(body: &[u8]) -> Result<Self, FormError> {
        let mut parameters: Vec<(String, Zeroizing<String>)> = Vec::new();
        let mut rest = Some(body).filter(|body| !body.is_empty());
        while let Some(text) = rest {
            let (pair, behind) = match memchr::memchr(b'&', text) {
                Some(at) => (&text[..at], Some(&text[at + 1..])),
                None => (text, None),
            };
            rest = behind;
            if parameters.len() == PARAMETERS_MAX {
                return Err(invalid(format!("the form has more than {PARAMETERS_MAX} parameters; send fewer")));
            }
            let (name, value) = match memchr::memchr(b'=', pair) {
                Some(at) => (&pair[..at], &pair[at + 1..]),
                None => (pair, &pair[pair.len()..]),
            };
            let name = decode(name).map_err(|why| invalid(format!("a parameter's name {why}")))?;
            if name.is_empty() {
                return Err(invalid("a parameter has no name; look for a stray `&` or `=` in the form"));
            }
            if name.len() > NAME_BYTES_MAX {
                return Err(invalid(format!("a parameter's name is longer than {NAME_BYTES_MAX} bytes")));
            }
            let value = decode(value).map_err(|why| invalid(format!("{} {why}", shown(&name))))?;
            limit(&name, &value)?;
            parameters.push((name.to_string(), value));
        }
        parameters.sort_by(|(a, _), (b, _)| a.cmp(b));
        if let Some([(name, _), _]) = parameters.array_windows().find(|[(a, _), (b, _)]| a == b) {
            return Err(invalid(format!("{} stands twice; send it once", shown(name))));
        }
        Ok(Self { parameters })
    }

    /// The value, unless absent or empty: RFC 6749 section 3.2 counts an empty parameter as omitted.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let at = self.parameters.binary_search_by(|(known, _)| known.as_str().cmp(name)).ok()?;
        Some(self.parameters[at].1.as_str()).filter(|value| !value.is_empty())
    }

    /// Of what was sent, empty or not.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.parameters.iter().map(|(name, _)| name.as_str())
    }

    fn secret(&self, name: &str) -> Option<Secret> {
        self.get(name).map(|value| Secret::new(value.to_owned()))
    }

    fn required(&self, name: &str, remedy: &str) -> Result<Secret, FormError> {
        self.secret(name).ok_or_else(|| invalid(format!("`{name}` is missing; {remedy}")))
    }

    /// SHA-256 over all parameters as sent, length-prefixed, in name order. Two forms with one digest ask the same.
    fn digest(&self) -> [u8; 32] {
        self.digest_without("")
    }

    /// The same, as if one of them had not been sent.
    pub(super) fn digest_without(&self, out: &str) -> [u8; 32] {
        let mut context = Context::new(&SHA256);
        let counted = self.parameters.iter().filter(|(name, _)| name != out);
        for text in counted.flat_map(|(name, value)| [name.as_str(), value.as_str()]) {
            context.update(&(text.len() as u64).to_be_bytes());
            context.update(text.as_bytes());
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(context.finish().as_ref());
        digest
    }

    /// The form of `POST /token`.
    pub fn asked(&self, address: Option<IpAddr>) -> Result<Asked, FormError> {
        let grant = self.grant()?;
        if self.get("resource").is_some() {
            return Err(FormError {
                code: FormCode::InvalidTarget,
                text: "`resource` is not supported; name the role as `audience`".to_owned(),
            });
        }
        if let Some(kind) = self.get("requested_token_type")
            && ![TYPE_JWT, TYPE_ACCESS_TOKEN, TYPE_HANDOFF].contains(&kind)
        {
            return Err(invalid(format!(
                "`requested_token_type` must be `{TYPE_JWT}`, `{TYPE_ACCESS_TOKEN}` or `{TYPE_HANDOFF}`, or be left out"
            )));
        }
        let grant = self.promise(grant)?;
        Ok(Asked {
            caller: None,
            grant,
            role: self.role()?,
            scope: self.scope()?,
            duration: self.duration()?,
            dry_run: self.dry_run()?,
            digest: self.digest(),
            address,
            sts: None,
        })
    }

    /// The form of `POST /revoke` (RFC 7009 section 2.1): the token. A `token_type_hint` changes nothing.
    pub fn revoked(&self) -> Result<Secret, FormError> {
        self.required("token", "send the credential that shall end")
    }

    /// The form of `POST /introspect` (RFC 7662 section 2.1): the token. A `token_type_hint` changes nothing.
    pub fn introspected(&self) -> Result<Secret, FormError> {
        self.required("token", "send the one that you were given")
    }

    fn grant(&self) -> Result<AskedGrant, FormError> {
        match self.get("grant_type") {
            None => Err(invalid(format!("`grant_type` is missing; send `{GRANT_TOKENS}`"))),
            Some(GRANT_TOKENS) => {
                let subject = self.required("subject_token", "send the CI job's OIDC token")?;
                let is_handoff = self.get("subject_token_type") == Some(TYPE_HANDOFF);
                if !is_handoff {
                    self.token_type("subject_token_type")?;
                }
                let actor = self.secret("actor_token");
                match (&actor, self.get("actor_token_type")) {
                    (None, None) => {}
                    (Some(_), _) => self.token_type("actor_token_type")?,
                    (None, Some(_)) => {
                        return Err(invalid("`actor_token_type` stands without `actor_token`; send both or neither"));
                    }
                }
                match actor {
                    Some(actor) if is_handoff => Ok(AskedGrant::Handoff { token: subject, actor }),
                    None if is_handoff => {
                        Err(invalid("a handoff is for who acts; send your own token as `actor_token`, with its type"))
                    }
                    actor => Ok(AskedGrant::Tokens { subject, actor }),
                }
            }
            Some(GRANT_POLL) => {
                let auth_req_id = self.required("auth_req_id", "send the one you were given")?;
                let (subject, actor) = (self.secret("subject_token"), self.secret("actor_token"));
                for name in ["subject_token_type", "actor_token_type"] {
                    if self.get(name).is_some() {
                        self.token_type(name)?;
                    }
                }
                if actor.is_some() && subject.is_none() {
                    return Err(invalid("`actor_token` stands without `subject_token`; send both or neither"));
                }
                if self.dry_run()? {
                    return Err(invalid("`dry_run` does not go with an `auth_req_id`; leave it out"));
                }
                Ok(AskedGrant::Poll { auth_req_id, subject, actor })
            }
            Some(GRANT_REFRESH) => self.refresh(),
            Some(_) => Err(FormError {
                code: FormCode::UnsupportedGrantType,
                text: format!("this `grant_type` is not supported; send `{GRANT_TOKENS}`"),
            }),
        }
    }

    /// Whom a handoff is asked for, if one is.
    fn promise(&self, grant: AskedGrant) -> Result<AskedGrant, FormError> {
        let names = ["may_act_iss", "may_act_sub"];
        if self.get("requested_token_type") != Some(TYPE_HANDOFF) {
            return match names.into_iter().find(|name| self.get(name).is_some()) {
                Some(name) => Err(invalid(format!(
                    "`{name}` says for whom a handoff is; send `requested_token_type={TYPE_HANDOFF}` with it"
                ))),
                None => Ok(grant),
            };
        }
        let [iss, sub] = names.map(|name| {
            let missing =
                || invalid(format!("`{name}` is missing; a handoff names who may act, by issuer URL and subject"));
            self.get(name).map(str::to_owned).ok_or_else(missing)
        });
        match grant {
            AskedGrant::Tokens { subject, actor: None } => {
                Ok(AskedGrant::Promise { subject, may_act_iss: iss?, may_act_sub: sub? })
            }
            _ => Err(invalid("a handoff is asked for with the CI job's own token, and without `actor_token`")),
        }
    }

    /// RFC 6749 section 6, together with the token that the family began with, whose type need not be said again.
    fn refresh(&self) -> Result<AskedGrant, FormError> {
        let token = self.required("refresh_token", "send the one you were given")?;
        let subject = self.required("subject_token", "send the CI job's OIDC token that you exchanged first")?;
        if self.get("subject_token_type").is_some() {
            self.token_type("subject_token_type")?;
        }
        for name in ["actor_token", "actor_token_type"] {
            if self.get(name).is_some() {
                return Err(invalid(format!("`{name}` does not go with a refresh token; begin with a token exchange")));
            }
        }
        if self.dry_run()? {
            return Err(invalid("`dry_run` does not go with a refresh token; leave it out"));
        }
        Ok(AskedGrant::Refresh { token, subject })
    }

    fn token_type(&self, name: &str) -> Result<(), FormError> {
        match self.get(name) {
            Some(TYPE_ID_TOKEN | TYPE_JWT) => Ok(()),
            Some(_) => Err(invalid(format!("`{name}` must be `{TYPE_ID_TOKEN}` or `{TYPE_JWT}`"))),
            None => Err(invalid(format!("`{name}` is missing; send `{TYPE_ID_TOKEN}`"))),
        }
    }

    fn role(&self) -> Result<Option<String>, FormError> {
        match (self.get("audience"), self.get("role")) {
            (Some(audience), Some(role)) if audience != role => {
                Err(invalid("`audience` and `role` name different roles; they are synonyms, send one of them"))
            }
            (audience, role) => Ok(audience.or(role).map(str::to_owned)),
        }
    }

    /// RFC 6749 section 3.3: words of visible ASCII without `"` and `\`, one space between two.
    fn scope(&self) -> Result<Option<String>, FormError> {
        let word =
            |word: &str| !word.is_empty() && word.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x5B | 0x5D..=0x7E));
        match self.get("scope") {
            Some(scope) if !scope.split(' ').all(word) => Err(FormError {
                code: FormCode::InvalidScope,
                text: "`scope` must be words of visible ASCII with one space between two".to_owned(),
            }),
            scope => Ok(scope.map(str::to_owned)),
        }
    }

    /// Beyond 32 bits it is clamped here; the role's ceiling clamps far below that.
    fn duration(&self) -> Result<Option<Seconds>, FormError> {
        let Some(text) = self.get("requested_expires_in") else { return Ok(None) };
        if !text.bytes().all(|byte| byte.is_ascii_digit()) || text.bytes().all(|byte| byte == b'0') {
            return Err(invalid("`requested_expires_in` must be seconds: decimal digits, from 1"));
        }
        Ok(Some(Seconds(text.parse().unwrap_or(u32::MAX))))
    }

    fn dry_run(&self) -> Result<bool, FormError> {
        match self.get("dry_run") {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(invalid("`dry_run` must be `true` or `false`")),
        }
    }
}

fn limit(name: &str, value: &str) -> Result<(), FormError> {
    if TOKENS.contains(&name) {
        if value.len() > TOKEN_BYTES_MAX {
            let text = format!("`{name}` is longer than {TOKEN_BYTES_MAX} bytes");
            return Err(FormError { code: FormCode::TooLarge, text });
        }
    } else if value.len() > VALUE_BYTES_MAX {
        return Err(invalid(format!("{} is longer than {VALUE_BYTES_MAX} bytes", shown(name))));
    }
    Ok(())
}

/// A name fit for an answer: a mangled form may hold a token where a name should stand.
fn shown(name: &str) -> String {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    if plain && name.len() <= 32 { format!("`{name}`") } else { "a parameter".to_owned() }
}

/// Whether all of them stand for themselves. A token does, with thousands of bytes: all of them are looked at, because a loop
/// without an exit is one for which processors have wide instructions.
fn is_plain(bytes: &[u8]) -> bool {
    bytes.iter().fold(true, |plain, byte| plain & (0x21..=0x7E).contains(byte) & (*byte != b'+') & (*byte != b'%'))
}

/// One name or value. What browsers' encoders never send unencoded is refused, not guessed at.
pub fn decode(bytes: &[u8]) -> Result<Zeroizing<String>, &'static str> {
    // The whole room at once: a vector that grows leaves copies of a token behind.
    let mut decoded = Zeroizing::new(Vec::with_capacity(bytes.len()));
    let (mut rest, all) = (bytes, is_plain(bytes));
    loop {
        let special = |byte: &u8| !is_plain(std::slice::from_ref(byte));
        let plain = if all { rest.len() } else { rest.iter().position(special).unwrap_or(rest.len()) };
        decoded.extend_from_slice(&rest[..plain]);
        let Some((special, behind)) = rest[plain..].split_first() else { break };
        rest = match special {
            b'+' => {
                decoded.push(b' ');
                behind
            }
            b'%' => {
                let digit = |at: usize| behind.get(at).and_then(|digit| char::from(*digit).to_digit(16));
                let (Some(high), Some(low)) = (digit(0), digit(1)) else {
                    return Err("holds a `%` without two hexadecimal digits; write it as `%25`");
                };
                decoded.push((high * 16 + low) as u8);
                &behind[2..]
            }
            _ => return Err("holds a byte that must be percent-encoded; with curl, use `--data-urlencode`"),
        };
    }
    if decoded.contains(&0) {
        return Err("holds a NUL; remove it");
    }
    match String::from_utf8(std::mem::take(&mut *decoded)) {
        Ok(text) => Ok(Zeroizing::new(text)),
        Err(error) => {
            drop(Zeroizing::new(error.into_bytes()));
            Err("is not UTF-8; encode it as UTF-8")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EXCHANGE: &str = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange\
        &subject_token=e.y.J&subject_token_type=urn:ietf:params:oauth:token-type:id_token";

    fn asked(more: &str) -> Result<Asked, FormError> {
        Form::parse(format!("{EXCHANGE}{more}").as_bytes())?.asked(None)
    }

    #[track_caller]
    fn refused(body: &str, code: FormCode, words: &str) {
        match Form::parse(body.as_bytes()).and_then(|form| form.asked(None)) {
            Err(error) => {
                assert_eq!(error.code, code, "{body}: {error}");
                assert!(error.text.contains(words), "{body}: {error}");
            }
            Ok(_) => panic!("{body} was accepted"),
        }
    }

    #[test]
    fn the_exchange_becomes_what_was_asked() {
        let asked = asked("&audience=pay.prod&scope=a+b&requested_expires_in=900&dry_run=true&client_id=x").unwrap();
        let AskedGrant::Tokens { subject, actor } = asked.grant else { panic!("another door") };
        assert_eq!((subject.reveal(), actor.is_none()), ("e.y.J", true));
        assert_eq!(asked.role.as_deref(), Some("pay.prod"));
        assert_eq!(asked.scope.as_deref(), Some("a b"));
        assert_eq!(asked.duration, Some(Seconds(900)));
        assert!(asked.dry_run);
    }

    #[test]
    fn empty_counts_as_omitted() {
        let asked = asked("&audience=&role=r&scope=&resource=&actor_token=&actor_token_type=&dry_run").unwrap();
        assert_eq!(asked.role.as_deref(), Some("r"));
        assert!(asked.scope.is_none() && !asked.dry_run);
        refused("grant_type=&subject_token=x", FormCode::InvalidRequest, "`grant_type` is missing");
    }

    #[test]
    fn other_doors_open_with_their_own_key() {
        let renewal = "grant_type=refresh_token&refresh_token=r1&subject_token=e.y.J";
        let form = Form::parse(renewal.as_bytes()).unwrap();
        let AskedGrant::Refresh { token, subject } = form.asked(None).unwrap().grant else { panic!("another door") };
        assert_eq!((token.reveal(), subject.reveal()), ("r1", "e.y.J"));
        for (more, words) in [
            ("&dry_run=true", "`dry_run` does not go"),
            ("&actor_token=x", "`actor_token` does not go"),
            ("&subject_token_type=x", "`subject_token_type` must be"),
        ] {
            refused(&format!("{renewal}{more}"), FormCode::InvalidRequest, words);
        }
        refused("grant_type=refresh_token&refresh_token=r1", FormCode::InvalidRequest, "`subject_token` is missing");
        let form = Form::parse(b"grant_type=urn:openid:params:grant-type:ciba&auth_req_id=a1").unwrap();
        let grant = form.asked(None).unwrap().grant;
        assert!(matches!(grant, AskedGrant::Poll { auth_req_id, subject: None, .. } if auth_req_id.reveal() == "a1"));
        refused("grant_type=refresh_token", FormCode::InvalidRequest, "`refresh_token` is missing");
        refused("grant_type=password", FormCode::UnsupportedGrantType, "not supported");
    }

    #[test]
    fn a_handoff_is_asked_for_by_its_job_and_sent_by_whom_it_is_for() {
        let wanted = format!("&requested_token_type={TYPE_HANDOFF}");
        let promise = asked(&format!("{wanted}&may_act_iss=https://c.example&may_act_sub=bot")).unwrap().grant;
        let AskedGrant::Promise { subject, may_act_iss, may_act_sub } = promise else { panic!("another door") };
        assert_eq!((subject.reveal(), &*may_act_iss, &*may_act_sub), ("e.y.J", "https://c.example", "bot"));
        let actor = "&actor_token=a&actor_token_type=urn:ietf:params:oauth:token-type:jwt";
        for (more, words) in [
            (format!("{wanted}&may_act_iss=x"), "`may_act_sub` is missing"),
            (format!("{wanted}&may_act_sub=x"), "`may_act_iss` is missing"),
            ("&may_act_sub=x".to_owned(), "`may_act_sub` says for whom"),
            (format!("{wanted}&may_act_iss=x&may_act_sub=y{actor}"), "without `actor_token`"),
        ] {
            refused(&format!("{EXCHANGE}{more}"), FormCode::InvalidRequest, words);
        }
        let sent = EXCHANGE.replace("urn:ietf:params:oauth:token-type:id_token", TYPE_HANDOFF);
        let form = Form::parse(format!("{sent}{actor}").as_bytes()).unwrap();
        let AskedGrant::Handoff { token, actor } = form.asked(None).unwrap().grant else { panic!("another door") };
        assert_eq!((token.reveal(), actor.reveal()), ("e.y.J", "a"));
        refused(&sent, FormCode::InvalidRequest, "for who acts");
        let renewal = "grant_type=refresh_token&refresh_token=r1&subject_token=e.y.J";
        refused(&format!("{renewal}{wanted}&may_act_iss=x&may_act_sub=y"), FormCode::InvalidRequest, "own token");
    }

    #[test]
    fn refusals_name_the_parameter() {
        let long = "a".repeat(VALUE_BYTES_MAX + 1);
        for (more, code, words) in [
            ("&subject_token=x", FormCode::InvalidRequest, "`subject_token` stands twice"),
            ("&subject%5Ftoken=x", FormCode::InvalidRequest, "`subject_token` stands twice"),
            ("&x=1&x=1", FormCode::InvalidRequest, "`x` stands twice"),
            ("&audience=a&role=b", FormCode::InvalidRequest, "synonyms"),
            ("&resource=https://x", FormCode::InvalidTarget, "`resource`"),
            ("&requested_token_type=saml", FormCode::InvalidRequest, "`requested_token_type`"),
            ("&requested_expires_in=0", FormCode::InvalidRequest, "from 1"),
            ("&requested_expires_in=%2B5", FormCode::InvalidRequest, "from 1"),
            ("&requested_expires_in=5m", FormCode::InvalidRequest, "from 1"),
            ("&dry_run=yes", FormCode::InvalidRequest, "`dry_run`"),
            ("&scope=a++b", FormCode::InvalidScope, "`scope`"),
            ("&scope=%22", FormCode::InvalidScope, "`scope`"),
            ("&actor_token=x", FormCode::InvalidRequest, "`actor_token_type` is missing"),
            ("&actor_token_type=x", FormCode::InvalidRequest, "both or neither"),
            ("&actor_token=x&actor_token_type=x", FormCode::InvalidRequest, "`actor_token_type` must be"),
            ("&", FormCode::InvalidRequest, "stray"),
            ("&=v", FormCode::InvalidRequest, "stray"),
            ("&role=%", FormCode::InvalidRequest, "`role` holds a `%`"),
            ("&role=%+1", FormCode::InvalidRequest, "`role` holds a `%`"),
            ("&role=%4", FormCode::InvalidRequest, "`role` holds a `%`"),
            ("&role=%00", FormCode::InvalidRequest, "NUL"),
            ("&role=%FF", FormCode::InvalidRequest, "UTF-8"),
            ("&role=ü", FormCode::InvalidRequest, "percent-encoded"),
            ("\n", FormCode::InvalidRequest, "percent-encoded"),
            (&format!("&role={long}"), FormCode::InvalidRequest, "`role` is longer"),
            (&format!("&{long}=x"), FormCode::InvalidRequest, "name is longer"),
        ] {
            refused(&format!("{EXCHANGE}{more}"), code, words);
        }
        refused("", FormCode::InvalidRequest, "`grant_type` is missing");
    }

    #[test]
    fn a_token_in_the_place_of_a_name_is_not_repeated() {
        let error = Form::parse(b"eyJhbGciOiJSUzI1NiJ9.canary=1&eyJhbGciOiJSUzI1NiJ9.canary=2").err().unwrap();
        assert_eq!(error.text, "a parameter stands twice; send it once");
    }

    #[test]
    fn sizes_are_decoded_sizes() {
        let token = "a".repeat(TOKEN_BYTES_MAX);
        let rest = "grant_type=urn:ietf:params:oauth:grant-type:token-exchange\
            &subject_token_type=urn:ietf:params:oauth:token-type:jwt&subject_token=";
        assert!(Form::parse(format!("{rest}{token}").as_bytes()).unwrap().asked(None).is_ok());
        refused(&format!("{rest}{token}a"), FormCode::TooLarge, "`subject_token` is longer");
        let many: Vec<String> = (0..=PARAMETERS_MAX).map(|at| format!("p{at}=1")).collect();
        refused(&many.join("&"), FormCode::InvalidRequest, "more than");
    }

    #[test]
    fn a_huge_duration_is_clamped_not_refused() {
        assert_eq!(asked("&requested_expires_in=99999999999999").unwrap().duration, Some(Seconds(u32::MAX)));
    }

    #[test]
    fn the_digest_sees_order_of_names_only() {
        let digest = |body: &str| Form::parse(body.as_bytes()).unwrap().digest();
        assert_eq!(digest("a=1&b=2"), digest("b=%32&a=1"), "order and spelling do not matter");
        let bodies = ["a=1&b=2", "a=1", "a=1&b=2&c=", "a=12&b=", "ab=12", "a=1&b=3", ""];
        for (at, one) in bodies.iter().enumerate() {
            for other in &bodies[at + 1..] {
                assert_ne!(digest(one), digest(other), "{one} and {other}");
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_comes_back(pairs in proptest::collection::btree_map("[^\0]{1,8}", "[^\0]{0,20}", 0..6)) {
            let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&pairs).finish();
            let form = Form::parse(body.as_bytes()).unwrap();
            let got: Vec<(&str, &str)> = form.parameters.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            let sent: Vec<(&str, &str)> = pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            prop_assert_eq!(got, sent);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Form::parse(&bytes).map(|form| form.asked(None).is_ok());
        }
    }
}
