//! The pages of `docs/diagnostics/`, compiled in: `check --explain` works where the binary is, without network.

macro_rules! pages {
    ($($code:literal)*) => {
        const PAGES: &[(&str, &str)] =
            &[$(($code, include_str!(concat!("../../docs/diagnostics/", $code, ".md"))),)*];
    };
}

pages! {
    "CB0101" "CB0102" "CB0103" "CB0104" "CB0105" "CB0106" "CB0107" "CB0108" "CB0109" "CB0110" "CB0111" "CB0112"
    "CB0113" "CB0114" "CB0115" "CB0116" "CB0117" "CB0118" "CB0119" "CB0120" "CB0121" "CB0122" "CB0123"
    "CB0201" "CB0202" "CB0203" "CB0204" "CB0205" "CB0206" "CB0207" "CB0208" "CB0209" "CB0210" "CB0211" "CB0212"
    "CB0213" "CB0214" "CB0215" "CB0216" "CB0217" "CB0218" "CB0219" "CB0220"
    "CB0301" "CB0302" "CB0303" "CB0304" "CB0305" "CB0306" "CB0307" "CB0308" "CB0309" "CB0310" "CB0311" "CB0312"
    "CB0313" "CB0314" "CB0315" "CB0316"
    "CB0401" "CB0402" "CB0403" "CB0404" "CB0405" "CB0406" "CB0407" "CB0408" "CB0409" "CB0410" "CB0411" "CB0412"
    "CB0413" "CB0414" "CB0415" "CB0416" "CB0417" "CB0418"
    "CB0501" "CB0502" "CB0503" "CB0504" "CB0505" "CB0506" "CB0507" "CB0508" "CB0509" "CB0510" "CB0511" "CB0512"
    "CB0513" "CB0514" "CB0515" "CB0516" "CB0517" "CB0518" "CB0520" "CB0521" "CB0522" "CB0523" "CB0524" "CB0525" "CB0526"
    "CB0527" "CB0528" "CB0529" "CB0530" "CB0531" "CB0532" "CB0533" "CB0534" "CB0535" "CB0536" "CB0540" "CB0550"
    "CB0601" "CB0602" "CB0603" "CB0604" "CB0605" "CB0610"
    "CB0701" "CB0702" "CB0703" "CB0704"
    "CB0710" "CB0711" "CB0712" "CB0713" "CB0714" "CB0715" "CB0716" "CB0717"
    "CB0718" "CB0719" "CB0720" "CB0721" "CB0722" "CB0723" "CB0724" "CB0725" "CB0726" "CB0727" "CB0728" "CB0729"
    "CB0730" "CB0731" "CB0732" "CB0733" "CB0734" "CB0735" "CB0736" "CB0737" "CB0750"
    "CB0800" "CB0801" "CB0802" "CB0803" "CB0804" "CB0805" "CB0806" "CB0807"
    "CB0820" "CB0821" "CB0822" "CB0823" "CB0824" "CB0825" "CB0826" "CB0827" "CB0828" "CB0829" "CB0830"
    "CB0901" "CB0903"
    "CB1001" "CB1002" "CB1003" "CB1004" "CB1005" "CB1006" "CB1007" "CB1008" "CB1009"
}

/// The page of a code, however its letters are written.
pub(super) fn page(code: &str) -> Option<&'static str> {
    PAGES.iter().find(|(known, _)| known.eq_ignore_ascii_case(code)).map(|(_, page)| *page)
}

#[cfg(test)]
mod tests {
    use super::*;
    use claimbound_core::mapping::codes;

    #[test]
    fn every_code_of_a_folder_can_be_explained() {
        for (code, title) in codes::ALL {
            let text = page(&code.to_string()).unwrap_or_else(|| panic!("{code} has no page"));
            assert!(text.starts_with(&format!("# {code}: {title}\n")), "{code} has another title on its page");
        }
        assert_eq!(page("cb0104"), page("CB0104"));
        assert_eq!(page("CB0000"), None);
    }
}
