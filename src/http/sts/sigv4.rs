//! The `Authorization` header of AWS Signature Version 4
//! (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-authentication-methods.html>), read strictly. Its signature
//! is not verified: the secret that it takes is nobody's but AWS's and the job's.

const ALGORITHM: &str = "AWS4-HMAC-SHA256 ";
/// The longest header that is read.
const HEADER_BYTES_MAX: usize = 2048;
/// AWS's key ids have 16 to 128 characters.
const ACCESS_KEY_CHARACTERS_MAX: usize = 128;
/// Hexadecimal digits of a signature.
const SIGNATURE_DIGITS: usize = 64;
/// Digits of a scope's date.
const DATE_DIGITS: usize = 8;

/// What the header says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Signed<'h> {
    pub(super) access_key_id: &'h str,
    headers: &'h str,
}

impl<'h> Signed<'h> {
    /// `None`: it is of another form, or no request to STS is signed by it.
    pub(super) fn read(header: &'h str) -> Option<Self> {
        let fields = header.strip_prefix(ALGORITHM).filter(|_| header.len() <= HEADER_BYTES_MAX)?;
        let [mut credential, mut headers, mut signature] = [None; 3];
        for field in fields.split(',') {
            let (name, value) = field.trim_matches(' ').split_once('=')?;
            let place = match name {
                "Credential" => &mut credential,
                "SignedHeaders" => &mut headers,
                "Signature" => &mut signature,
                _ => return None,
            };
            if place.replace(value).is_some() {
                return None;
            }
        }
        let (headers, signature) = (headers?, signature?);
        let scope: Vec<&str> = credential?.splitn(6, '/').collect();
        let [access_key_id, date, region, "sts", "aws4_request"] = scope[..] else { return None };
        let digits = |text: &str, count| text.len() == count && text.bytes().all(|b| b.is_ascii_digit());
        let word = |text: &str, extra: u8| {
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == extra)
        };
        let header = |name: &str| {
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        let whole = word(access_key_id, b'_')
            && access_key_id.len() <= ACCESS_KEY_CHARACTERS_MAX
            && digits(date, DATE_DIGITS)
            && word(region, b'-')
            && signature.len() == SIGNATURE_DIGITS
            && signature.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
            && headers.split(';').all(header);
        let signed = Self { access_key_id, headers };
        (whole && signed.covers("host")).then_some(signed)
    }

    /// Whether a header was signed with the request.
    pub(super) fn covers(&self, name: &str) -> bool {
        self.headers.split(';').any(|signed| signed == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(credential: &str, headers: &str) -> String {
        format!("{ALGORITHM}Credential={credential}, SignedHeaders={headers}, Signature={}", "0a".repeat(32))
    }

    const CREDENTIAL: &str = "ASIAEXAMPLE0001/20270115/eu-west-1/sts/aws4_request";
    const HEADERS: &str = "content-type;host;x-amz-date;x-amz-security-token";

    #[test]
    fn a_header_is_read_whole_or_not_at_all() {
        let good = header(CREDENTIAL, HEADERS);
        let signed = Signed::read(&good).unwrap();
        assert_eq!(signed.access_key_id, "ASIAEXAMPLE0001");
        assert!(signed.covers("x-amz-security-token") && !signed.covers("x-amz") && !signed.covers(""));
        assert!(Signed::read(&good.replace(", ", ",")).is_some(), "blanks are the signer's");
        for bad in [
            String::new(),
            good.replace("HMAC-SHA256", "ECDSA-P256-SHA256"),
            good.replace("host", "hosts"),
            good.replace("/sts/", "/s3/"),
            good.replace("aws4_request", "aws4_request/x"),
            good.replace("20270115", "2027011"),
            good.replace("ASIAEXAMPLE0001", ""),
            good.replace("ASIAEXAMPLE0001", &"A".repeat(129)),
            good.replace("ASIAEXAMPLE0001", "A'B"),
            good.replace("0a0a", "0A0a"),
            good.replacen("0a", "", 1),
            good.replace("Signature", "Sign"),
            good.replace("content-type", "Content-Type"),
            good.replace("content-type", ""),
            format!("{good}, Signature=x"),
            format!("{good}, Token=x"),
            format!("{good},"),
            format!("{good}{}", " ".repeat(HEADER_BYTES_MAX)),
        ] {
            assert_eq!(Signed::read(&bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_header_panics(text in "\\PC{0,200}", at in any::<prop::sample::Index>(), byte in any::<char>()) {
            let _ = Signed::read(&text);
            let _ = Signed::read(&format!("{ALGORITHM}{text}"));
            let mut good: Vec<char> = header(CREDENTIAL, HEADERS).chars().collect();
            let at = at.index(good.len());
            good[at] = byte;
            let text: String = good.into_iter().collect();
            if let Some(signed) = Signed::read(&text) {
                prop_assert!(!signed.access_key_id.contains(|c: char| !c.is_ascii_alphanumeric() && c != '_'));
            }
        }
    }
}
