//! What binds a browser's request to the person and to our own pages: cookies, where a request comes from, and the token
//! of each form.

use crate::{http::form::Form, secret::Secret};
use actix_web::{HttpRequest, http::header};
use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    digest::{SHA256, digest},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use url::Url;

/// A person's session.
pub const SESSION: &str = "claimbound-session";
/// A sign-in that has begun at this browser.
pub const SIGN_IN: &str = "claimbound-sign-in";
/// Showing an account that has begun at this browser.
pub const LINK: &str = "claimbound-link";
/// Of a cookie that we set.
const COOKIE_BYTES_MAX: usize = 512;

/// What our own pages are known by.
#[derive(Clone, Debug)]
pub struct Site {
    /// Scheme, host and port.
    origin: String,
    /// The path that our own paths stand behind; empty, or without a slash at its end.
    pub base: String,
    /// HTTPS: only a development broker has none.
    secure: bool,
}

/// When a browser sends a cookie along.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sent {
    /// With requests of our own pages.
    Ours,
    /// Also when another page leads to ours, as a provider's does.
    Led,
}

impl Site {
    /// By the broker's `public_url`.
    pub fn of(public_url: &str) -> Self {
        let url = Url::parse(public_url).ok();
        Self {
            origin: url.as_ref().map(|url| url.origin().ascii_serialization()).unwrap_or_default(),
            base: url.map(|url| url.path().trim_end_matches('/').to_owned()).unwrap_or_default(),
            secure: public_url.starts_with("https://"),
        }
    }

    /// A cookie's name: with the prefix no other host, and no page of plain HTTP, can set it (RFC 6265bis section 4.1.3.2).
    fn named(&self, name: &str) -> String {
        if self.secure { format!("__Host-{name}") } else { name.to_owned() }
    }

    /// A `Set-Cookie` header. Without a value the cookie is taken back.
    pub fn set(&self, name: &str, value: Option<&Secret>, seconds: i64, sent: Sent) -> String {
        let (value, seconds) = value.map_or(("", 0), |value| (value.reveal(), seconds));
        let same_site = match sent {
            Sent::Ours => "Strict",
            Sent::Led => "Lax",
        };
        let secure = if self.secure { "; Secure" } else { "" };
        format!("{}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite={same_site}{secure}", self.named(name))
    }

    /// A cookie of ours; none, if it comes twice: one of them was planted.
    pub fn cookie(&self, request: &HttpRequest, name: &str) -> Option<Secret> {
        let name = self.named(name);
        let headers = request.headers().get_all(header::COOKIE).filter_map(|value| value.to_str().ok());
        let mut found = headers
            .flat_map(|header| header.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .filter(|(other, _)| *other == name)
            .map(|(_, value)| value);
        let (Some(one), None) = (found.next(), found.next()) else { return None };
        let fits = !one.is_empty() && one.len() <= COOKIE_BYTES_MAX;
        fits.then(|| Secret::new(one.to_owned()))
    }

    /// Whether one of our own pages sends this form. Our pages send no referrer, and browsers then write the origin as
    /// `null`, so the browser's own word for where it comes from decides; without that word the origin must be ours.
    pub fn is_own(&self, request: &HttpRequest) -> bool {
        let only = |name: &str| {
            let mut values = request.headers().get_all(name);
            match (values.next(), values.next()) {
                (None, _) => Some(None),
                (Some(one), None) => one.to_str().ok().map(Some),
                (Some(_), Some(_)) => None,
            }
        };
        let (Some(origin), Some(site)) = (only("origin"), only("sec-fetch-site")) else { return false };
        match (origin, site) {
            (None | Some("null"), site) => site == Some("same-origin"),
            (Some(origin), None | Some("same-origin")) => origin == self.origin,
            (Some(_), Some(_)) => false,
        }
    }
}

/// What a form must hold that a page of this session made, for this purpose.
pub fn form_token(session: &Secret, purpose: &str) -> String {
    let text = format!("claimbound form\0{purpose}\0{}", session.reveal());
    BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, text.as_bytes()))
}

/// Whether it does.
pub fn holds_token(form: &Form, session: &Secret, purpose: &str) -> bool {
    let expected = form_token(session, purpose);
    let given = form.get("form_token").unwrap_or_default();
    verify_slices_are_equal(given.as_bytes(), expected.as_bytes()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    #[test]
    fn a_site_is_known_by_its_public_url() {
        let site = Site::of("https://cb.example:8443/ci");
        assert_eq!((site.origin.as_str(), site.base.as_str(), site.secure), ("https://cb.example:8443", "/ci", true));
        let value = Secret::new("v".into());
        assert_eq!(
            site.set(SESSION, Some(&value), 900, Sent::Ours),
            "__Host-claimbound-session=v; Path=/; Max-Age=900; HttpOnly; SameSite=Strict; Secure"
        );
        let plain = Site::of("http://127.0.0.1:8080");
        assert_eq!((plain.base.as_str(), plain.secure), ("", false));
        assert_eq!(
            plain.set(SIGN_IN, None, 600, Sent::Led),
            "claimbound-sign-in=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax"
        );
    }

    #[test]
    fn a_cookie_that_comes_twice_is_none() {
        let site = Site::of("https://cb.example");
        for (headers, expected) in [
            (vec!["__Host-claimbound-session=a"], Some("a")),
            (vec!["x=1; __Host-claimbound-session=a=b; y=2"], Some("a=b")),
            (vec!["claimbound-session=planted"], None),
            (vec!["__Host-claimbound-session=a; __Host-claimbound-session=b"], None),
            (vec!["__Host-claimbound-session=a", "__Host-claimbound-session=a"], None),
            (vec!["__Host-claimbound-session="], None),
            (vec![], None),
        ] {
            let request =
                headers.iter().fold(TestRequest::get(), |request, value| request.append_header(("cookie", *value)));
            let found = site.cookie(&request.to_http_request(), SESSION);
            assert_eq!(found.as_ref().map(Secret::reveal), expected, "{headers:?}");
        }
    }

    #[test]
    fn forms_come_from_our_own_pages() {
        let site = Site::of("https://cb.example");
        let ours = "https://cb.example";
        for (headers, own) in [
            (vec![("origin", ours)], true),
            (vec![("origin", ours), ("sec-fetch-site", "same-origin")], true),
            (vec![("origin", "null"), ("sec-fetch-site", "same-origin")], true),
            (vec![("sec-fetch-site", "same-origin")], true),
            (vec![], false),
            (vec![("origin", "null")], false),
            (vec![("origin", "null"), ("sec-fetch-site", "cross-site")], false),
            (vec![("origin", ours), ("sec-fetch-site", "same-site")], false),
            (vec![("origin", ours), ("sec-fetch-site", "none")], false),
            (vec![("origin", "https://evil.example"), ("sec-fetch-site", "same-origin")], false),
            (vec![("origin", "https://cb.example.evil.example")], false),
            (vec![("origin", "http://cb.example")], false),
            (vec![("origin", ours), ("origin", ours)], false),
            (vec![("sec-fetch-site", "cross-site")], false),
        ] {
            let request = headers.iter().fold(TestRequest::post(), |request, header| request.append_header(*header));
            assert_eq!(site.is_own(&request.to_http_request()), own, "{headers:?}");
        }
    }

    #[test]
    fn a_forms_token_is_of_its_session_and_purpose() {
        let (one, other) = (Secret::new("cbp_a".into()), Secret::new("cbp_b".into()));
        let form = |token: &str| Form::parse(format!("form_token={token}").as_bytes()).unwrap();
        let token = form_token(&one, "claim 1");
        assert!(holds_token(&form(&token), &one, "claim 1"));
        assert!(!holds_token(&form(&token), &one, "claim 2") && !holds_token(&form(&token), &other, "claim 1"));
        assert!(!holds_token(&form(""), &one, "claim 1") && !holds_token(&form("x"), &one, "claim 1"));
    }
}
