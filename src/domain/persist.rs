//! What stands in DNS once and for all: the records of DNS-PERSIST-01 (draft-ietf-acme-dns-persist, section 4).

use std::fmt;
use std::time::Duration;

use super::check::{Problem, ProblemKind};
use super::text::{one_line, printable};
use super::time::Timestamp;

/// What an order needs of the records at one name.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The names that the CA goes by (`issuerDomainNames` of its directory or of the challenge).
    pub issuer_domains: &'a [String],
    /// In the CA's spelling, as it compares byte by byte (RFC 3986, section 6.2.1).
    pub account_uri: &'a str,
    /// For a wildcard of the name, or for a name below it.
    pub wildcard: bool,
}

/// What the CA would make of the records at one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// As long as the record stays, where no instant is given.
    Valid {
        until: Option<Timestamp>,
    },
    /// No record is for this CA.
    Absent,
    /// The record was for this order until this instant.
    Expired {
        at: Timestamp,
    },
    /// The record is for the name alone.
    NoWildcard,
    /// The record is for this one.
    OtherAccount(String),
    Malformed(Flaw),
}

/// Why a record for this CA counts for nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    #[error("a semicolon has nothing behind it: take it away")]
    EmptyParameter,
    #[error("a parameter is not written tag=value: {0}")]
    NotATagAndValue(String),
    #[error("a value may hold neither blanks nor anything beyond ASCII: write the value anew for {0}")]
    ForbiddenCharacter(String),
    #[error("a parameter stands there twice: leave one {0}")]
    Twice(&'static str),
    #[error("it names no account: add {ACCOUNT}=")]
    NoAccount,
    #[error("{UNTIL} is not a number of seconds since 1970: {0}")]
    NotAnInstant(String),
}

/// What proves a name for as long as it stands, as it was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    pub owner: String,
    /// What has to be there.
    pub record: String,
    pub standing: Standing,
}

/// What an operator must put at `_validation-persist` below the name, as one text: DNS holds it as several strings where
/// it is longer than 255 bytes (RFC 1035, section 3.3.14).
pub fn record(issuer_domain: &str, account_uri: &str, wildcard: bool, until: Option<Timestamp>) -> String {
    let policy = if wildcard { format!("; {POLICY}={WILDCARD}") } else { String::new() };
    let until = until.map_or_else(String::new, |at| format!("; {UNTIL}={}", at.0));
    format!("{}; {ACCOUNT}={}{policy}{until}", one_line(issuer_domain), one_line(account_uri))
}

/// One record that the CA accepts is enough (section 4.3.2). Where there is none, this tells of the record that comes
/// closest to it. Each record is one text, its strings joined.
pub fn judge(records: &[String], wanted: &Wanted, now: Timestamp) -> Standing {
    // Resolvers turn the order round at each answer, and what is told should not turn with it.
    let mut sorted: Vec<_> = records.iter().collect();
    sorted.sort();
    let standings = sorted.into_iter().filter_map(|record| standing(record, wanted, now));
    standings.max_by_key(Standing::closeness).unwrap_or(Standing::Absent)
}

/// What is wrong with a record that a renewal depends on.
pub fn check(now: Timestamp, proof: &Proof) -> Option<Problem> {
    let Proof { owner, record, standing } = proof;
    let message = || format!("{standing}; put this there: {owner} TXT \"{record}\"");
    match standing {
        Standing::Valid { until: None } => None,
        Standing::Valid { until: Some(at) } if *at > now.plus(AHEAD) => None,
        Standing::Valid { until: Some(_) } => Some(Problem::warning(ProblemKind::PersistRecord, message())),
        Standing::Absent | Standing::Expired { .. } | Standing::NoWildcard => {
            Some(Problem::critical(ProblemKind::PersistRecord, message()))
        }
        Standing::OtherAccount(_) | Standing::Malformed(_) => {
            Some(Problem::critical(ProblemKind::PersistRecord, message()))
        }
    }
}

impl Standing {
    /// The greater, the closer to what is wanted. A record of another account is nobody's mistake, so that one with a
    /// flaw is told of before it.
    fn closeness(&self) -> (u8, i64) {
        match self {
            Self::Absent => (0, 0),
            Self::OtherAccount(_) => (1, 0),
            Self::Malformed(_) => (2, 0),
            Self::NoWildcard => (3, 0),
            Self::Expired { at } => (4, at.0),
            Self::Valid { until } => (5, until.map_or(i64::MAX, |at| at.0)),
        }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Valid { until: None } => f.write_str("a record allows it"),
            Self::Valid { until: Some(at) } => write!(f, "a record allows it until {at}"),
            Self::Absent => f.write_str("no record is for this CA"),
            Self::Expired { at } => write!(f, "the record allowed it until {at}"),
            Self::NoWildcard => f.write_str("the record is for the name alone, not for a wildcard or a name below it"),
            Self::OtherAccount(uri) => write!(f, "the record is for another account: {uri}"),
            Self::Malformed(flaw) => write!(f, "the record for this CA is malformed: {flaw}"),
        }
    }
}

/// `None` for a record that is another CA's, which may look however that CA likes it.
fn standing(record: &str, wanted: &Wanted, now: Timestamp) -> Option<Standing> {
    let (issuer, parameters) =
        record.split_once(';').map_or((record, None), |(issuer, parameters)| (issuer, Some(parameters)));
    let is_ours = wanted.issuer_domains.iter().any(|domain| normal(domain) == normal(issuer));
    is_ours.then(|| match Terms::read(parameters) {
        Ok(terms) => terms.standing(wanted, now),
        Err(flaw) => Standing::Malformed(flaw),
    })
}

/// As domain names are compared (section 9.2, for names that are ASCII already).
fn normal(domain: &str) -> String {
    let domain = trimmed(domain);
    domain.strip_suffix('.').unwrap_or(domain).to_ascii_lowercase()
}

/// The parameters of one record that mean something here.
#[derive(Default)]
struct Terms<'a> {
    account: Option<&'a str>,
    policy: Option<&'a str>,
    until: Option<Timestamp>,
}

impl<'a> Terms<'a> {
    fn read(parameters: Option<&'a str>) -> Result<Self, Flaw> {
        let mut terms = Self::default();
        for parameter in parameters.into_iter().flat_map(|all| all.split(';')) {
            terms.take(trimmed(parameter))?;
        }
        match terms.account {
            None | Some("") => Err(Flaw::NoAccount),
            Some(_) => Ok(terms),
        }
    }

    /// The syntax is that of CAA (RFC 8659, section 4.2), and what has an unknown tag is passed over.
    fn take(&mut self, parameter: &'a str) -> Result<(), Flaw> {
        if parameter.is_empty() {
            return Err(Flaw::EmptyParameter);
        }
        let (tag, value) = match parameter.split_once('=') {
            Some((tag, value)) if !trimmed(tag).is_empty() => (trimmed(tag), trimmed(value)),
            Some(_) | None => return Err(Flaw::NotATagAndValue(printable(parameter))),
        };
        if !value.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Flaw::ForbiddenCharacter(printable(tag)));
        }
        if tag.eq_ignore_ascii_case(ACCOUNT) {
            once(&mut self.account, value, ACCOUNT)
        } else if tag.eq_ignore_ascii_case(POLICY) {
            once(&mut self.policy, value, POLICY)
        } else if tag.eq_ignore_ascii_case(UNTIL) {
            let at = value.parse().map_err(|_| Flaw::NotAnInstant(printable(value)))?;
            once(&mut self.until, Timestamp(at), UNTIL)
        } else {
            Ok(())
        }
    }

    /// A policy that is not known counts as none, and the record is good at the very instant that it names
    /// (section 4.1, items 4 and 5).
    fn standing(&self, wanted: &Wanted, now: Timestamp) -> Standing {
        let account = self.account.unwrap_or_default();
        let is_wildcard = self.policy.is_some_and(|policy| policy.eq_ignore_ascii_case(WILDCARD));
        match self.until {
            _ if account != wanted.account_uri => Standing::OtherAccount(printable(account)),
            _ if wanted.wildcard && !is_wildcard => Standing::NoWildcard,
            Some(at) if now > at => Standing::Expired { at },
            until => Standing::Valid { until },
        }
    }
}

fn once<T>(place: &mut Option<T>, value: T, tag: &'static str) -> Result<(), Flaw> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(Flaw::Twice(tag)),
    }
}

/// Without the white space of RFC 5234.
fn trimmed(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

/// So long before its end whoever has to write it anew is told.
const AHEAD: Duration = Duration::from_secs(14 * 24 * 60 * 60);

const ACCOUNT: &str = "accounturi";

const POLICY: &str = "policy";

const UNTIL: &str = "persistUntil";

const WILDCARD: &str = "wildcard";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::check::Severity;

    const NOW: i64 = 1_800_000_000;
    const URI: &str = "https://ca.example/acct/123";
    const OURS: &str = "ca.example; accounturi=https://ca.example/acct/123";
    const THEIRS: &str = "ca.example; accounturi=https://ca.example/acct/9";

    fn judged(records: &[&str], wildcard: bool) -> Standing {
        let issuer_domains = ["ca.example".to_string(), "Other.CA.example.".to_string()];
        let wanted = Wanted { issuer_domains: &issuer_domains, account_uri: URI, wildcard };
        let records: Vec<String> = records.iter().map(ToString::to_string).collect();
        judge(&records, &wanted, Timestamp(NOW))
    }

    fn for_the_name(record: &str) -> Standing {
        judged(&[record], false)
    }

    /// With these parameters behind one that is fine.
    fn with(parameters: &str) -> Standing {
        for_the_name(&format!("{OURS}{parameters}"))
    }

    const FOR_EVER: Standing = Standing::Valid { until: None };

    fn until(at: i64) -> Standing {
        Standing::Valid { until: Some(Timestamp(at)) }
    }

    fn expired(at: i64) -> Standing {
        Standing::Expired { at: Timestamp(at) }
    }

    #[test]
    fn a_record_of_the_ca_and_the_account_is_valid_for_the_name_alone() {
        assert_eq!(judged(&[OURS], false), FOR_EVER);
        assert_eq!(judged(&[OURS], true), Standing::NoWildcard);
    }

    #[test]
    fn a_wildcard_policy_is_good_for_the_name_and_all_below_it_in_any_case_of_letters() {
        for policy in ["policy=wildcard", "policy=WILDCARD", "Policy=Wildcard", "POLICY = wildcard"] {
            let record = format!("{OURS}; {policy}");
            assert_eq!(judged(&[&record], true), FOR_EVER, "{policy}");
            assert_eq!(judged(&[&record], false), FOR_EVER, "{policy}");
        }
    }

    #[test]
    fn a_policy_that_is_unknown_counts_as_none() {
        for policy in ["policy=wildcards", "policy=", "policy=subdomains", "policy=\"wildcard\"", "policies=wildcard"] {
            let record = format!("{OURS}; {policy}");
            assert_eq!(judged(&[&record], true), Standing::NoWildcard, "{policy}");
            assert_eq!(judged(&[&record], false), FOR_EVER, "{policy}");
        }
    }

    #[test]
    fn without_a_record_for_this_ca_there_is_none() {
        for record in [
            "",
            " ",
            ";",
            "ca.example.org; accounturi=https://ca.example/acct/123",
            "xca.example; accounturi=https://ca.example/acct/123",
            "ca.example..; accounturi=https://ca.example/acct/123",
            "ca example; accounturi=https://ca.example/acct/123",
            "; accounturi=https://ca.example/acct/123",
            "accounturi=https://ca.example/acct/123",
            "v=spf1 -all",
            "another.example; accounturi=; accounturi=;;",
        ] {
            assert_eq!(for_the_name(record), Standing::Absent, "{record:?}");
        }
        assert_eq!(judged(&[], false), Standing::Absent);
    }

    #[test]
    fn the_name_of_the_ca_is_read_without_case_white_space_and_the_last_dot() {
        for issuer in ["CA.Example", "ca.example.", " \tca.example\t ", "other.ca.example", "OTHER.ca.example. "] {
            assert_eq!(for_the_name(&format!("{issuer}; accounturi={URI}")), FOR_EVER, "{issuer:?}");
        }
    }

    #[test]
    fn white_space_and_the_case_of_tags_do_not_matter_and_unknown_parameters_are_passed_over() {
        for record in [
            "ca.example;accounturi=https://ca.example/acct/123",
            "ca.example ;\t AccountURI\t= https://ca.example/acct/123 \t",
            "ca.example; future=x; accounturi=https://ca.example/acct/123; future=y; empty=",
        ] {
            assert_eq!(for_the_name(record), FOR_EVER, "{record:?}");
        }
    }

    #[test]
    fn an_account_is_another_if_a_single_character_is() {
        for uri in [
            "https://ca.example/acct/12",
            "https://ca.example/acct/1234",
            "https://CA.example/acct/123",
            "https://ca.example/acct/123/",
        ] {
            let other = Standing::OtherAccount(uri.to_string());
            assert_eq!(for_the_name(&format!("ca.example; accounturi={uri}")), other);
        }
        let equals = "https://ca.example/acct?id=1";
        assert_eq!(
            for_the_name(&format!("ca.example; accounturi={equals}")),
            Standing::OtherAccount(equals.to_string())
        );
    }

    #[test]
    fn another_account_is_named_in_short() {
        let long = format!("ca.example; accounturi=https://ca.example/{}", "x".repeat(300));
        let Standing::OtherAccount(named) = for_the_name(&long) else { panic!("it is another") };
        assert_eq!(named.len(), super::super::text::LONGEST_TEXT);
        assert!(named.starts_with("https://ca.example/xxx"));
    }

    #[test]
    fn a_record_is_valid_up_to_the_very_instant_that_it_names() {
        assert_eq!(with(&format!("; persistUntil={}", NOW + 1)), until(NOW + 1));
        assert_eq!(with(&format!("; persistUntil={NOW}")), until(NOW));
        assert_eq!(with(&format!("; persistUntil={}", NOW - 1)), expired(NOW - 1));
        assert_eq!(with("; persistuntil=0"), expired(0));
        assert_eq!(with("; PERSISTUNTIL=-1"), expired(-1));
        assert_eq!(with("; persistUntil=9223372036854775807"), until(i64::MAX));
    }

    #[test]
    fn what_a_record_is_for_comes_before_how_long() {
        let past = "; persistUntil=5";
        assert_eq!(judged(&[&format!("{OURS}{past}")], true), Standing::NoWildcard);
        assert_eq!(judged(&[&format!("{OURS}{past}; policy=wildcard")], true), expired(5));
        let other = Standing::OtherAccount("https://ca.example/acct/9".to_string());
        assert_eq!(judged(&[&format!("{THEIRS}{past}")], true), other);
    }

    #[test]
    fn a_flaw_in_the_syntax_is_told() {
        let malformed = |parameters: &str, flaw: Flaw| {
            assert_eq!(with(parameters), Standing::Malformed(flaw), "{parameters:?}");
        };
        malformed(";", Flaw::EmptyParameter);
        malformed("; ", Flaw::EmptyParameter);
        malformed(";; policy=wildcard", Flaw::EmptyParameter);
        malformed("; wildcard", Flaw::NotATagAndValue("wildcard".into()));
        malformed("; = wildcard", Flaw::NotATagAndValue("= wildcard".into()));
        malformed("; \u{1b}[2J", Flaw::NotATagAndValue("\\u{1b}[2J".into()));
        malformed("; policy=wild card", Flaw::ForbiddenCharacter("policy".into()));
        malformed("; future=\u{7f}", Flaw::ForbiddenCharacter("future".into()));
        malformed("; fu\u{7}ture=\u{e9}", Flaw::ForbiddenCharacter("fu\\u{7}ture".into()));
        malformed("; AccountUri=https://ca.example/acct/123", Flaw::Twice("accounturi"));
        malformed("; policy=wildcard; policy=wildcard", Flaw::Twice("policy"));
        malformed("; persistUntil=1900000000; PersistUntil=1900000000", Flaw::Twice("persistUntil"));
    }

    #[test]
    fn what_is_no_whole_number_of_seconds_is_no_instant() {
        for value in ["", "never", "1.5", "0x10", "1_000", "2027-01-31T12:00:00Z", "9223372036854775808", "1;2"] {
            let read = value.split(';').next().unwrap();
            let expected = match value {
                "1;2" => Standing::Malformed(Flaw::NotATagAndValue("2".into())),
                _ => Standing::Malformed(Flaw::NotAnInstant(read.into())),
            };
            assert_eq!(with(&format!("; persistUntil={value}")), expected, "{value}");
        }
    }

    #[test]
    fn a_record_that_names_no_account_is_malformed() {
        for record in ["ca.example", "ca.example; policy=wildcard", "ca.example; accounturi=", "ca.example;account=x"] {
            assert_eq!(for_the_name(record), Standing::Malformed(Flaw::NoAccount), "{record}");
        }
        assert_eq!(for_the_name("ca.example;"), Standing::Malformed(Flaw::EmptyParameter));
    }

    #[test]
    fn an_empty_account_is_not_taken_for_one_that_is_wanted() {
        let wanted = Wanted { issuer_domains: &["ca.example".to_string()], account_uri: "", wildcard: false };
        let judged = judge(&["ca.example; accounturi=".to_string()], &wanted, Timestamp(NOW));
        assert_eq!(judged, Standing::Malformed(Flaw::NoAccount));
    }

    #[test]
    fn of_several_records_the_best_counts_whatever_their_order() {
        let past = |at: i64| format!("{OURS}; policy=wildcard; persistUntil={at}");
        let (near, far) = (past(NOW + 5), past(NOW + 50));
        let (older, newer) = (past(NOW - 50), past(NOW - 5));
        let broken = format!("{OURS};");
        let forever = format!("{OURS}; policy=wildcard");
        let their = Standing::OtherAccount("https://ca.example/acct/9".to_string());
        let foreign = "another.example; accounturi=x";
        for (records, expected) in [
            (vec![foreign, THEIRS], their),
            (vec![THEIRS, &broken], Standing::Malformed(Flaw::EmptyParameter)),
            (vec![THEIRS, &broken, OURS], Standing::NoWildcard),
            (vec![THEIRS, &broken, OURS, &older], expired(NOW - 50)),
            (vec![OURS, &older, &newer], expired(NOW - 5)),
            (vec![&newer, &broken, THEIRS, OURS, &near], until(NOW + 5)),
            (vec![&near, &far, foreign], until(NOW + 50)),
            (vec![&far, &forever, &near], FOR_EVER),
        ] {
            let mut records = records;
            for _ in 0..records.len() {
                records.rotate_left(1);
                assert_eq!(judged(&records, true), expected, "{records:?}");
            }
        }
    }

    #[test]
    fn of_several_other_accounts_the_same_is_named_each_time() {
        let another = "ca.example; accounturi=https://ca.example/acct/8";
        let expected = Standing::OtherAccount("https://ca.example/acct/9".to_string());
        assert_eq!(judged(&[THEIRS, another], false), expected);
        assert_eq!(judged(&[another, THEIRS], false), expected);
    }

    #[test]
    fn the_operator_is_told_what_to_put_there() {
        assert_eq!(record("ca.example", URI, false, None), OURS);
        assert_eq!(record("ca.example", URI, true, None), format!("{OURS}; policy=wildcard"));
        assert_eq!(
            record("ca.example", URI, true, Some(Timestamp(1_767_225_600))),
            format!("{OURS}; policy=wildcard; persistUntil=1767225600")
        );
        assert_eq!(
            record("a\n", "b\u{1b}", false, Some(Timestamp(-1))),
            "a\\u{a}; accounturi=b\\u{1b}; persistUntil=-1"
        );
    }

    #[test]
    fn each_standing_is_told_in_words() {
        for (standing, said) in [
            (FOR_EVER, "a record allows it"),
            (until(NOW), "a record allows it until 2027-01-15T08:00:00Z"),
            (Standing::Absent, "no record is for this CA"),
            (expired(NOW), "the record allowed it until 2027-01-15T08:00:00Z"),
            (Standing::NoWildcard, "the record is for the name alone, not for a wildcard or a name below it"),
            (Standing::OtherAccount(URI.into()), "the record is for another account: https://ca.example/acct/123"),
            (
                Standing::Malformed(Flaw::NoAccount),
                "the record for this CA is malformed: it names no account: add accounturi=",
            ),
        ] {
            assert_eq!(standing.to_string(), said);
        }
    }

    #[test]
    fn a_flaw_says_what_to_do() {
        for (flaw, said) in [
            (Flaw::EmptyParameter, "a semicolon has nothing behind it: take it away"),
            (Flaw::NotATagAndValue("x".into()), "a parameter is not written tag=value: x"),
            (
                Flaw::ForbiddenCharacter("x".into()),
                "a value may hold neither blanks nor anything beyond ASCII: write the value anew for x",
            ),
            (Flaw::Twice(POLICY), "a parameter stands there twice: leave one policy"),
            (Flaw::NoAccount, "it names no account: add accounturi="),
            (Flaw::NotAnInstant("x".into()), "persistUntil is not a number of seconds since 1970: x"),
        ] {
            assert_eq!(flaw.to_string(), said);
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_the_operator_is_told_to_put_there_is_valid(
            uri in "[!-:<-~]{1,300}", wildcard: bool, at in proptest::option::of(NOW..)
        ) {
            let until = at.map(Timestamp);
            let wanted = Wanted { issuer_domains: &["ca.example".to_string()], account_uri: &uri, wildcard };
            let judged = judge(&[record("ca.example", &uri, wildcard, until)], &wanted, Timestamp(NOW));
            proptest::prop_assert_eq!(judged, Standing::Valid { until });
        }

        #[test]
        fn whatever_stands_there_is_judged(text: String, parameters: String) {
            for record in [text, format!("ca.example;{parameters}"), format!("{OURS};{parameters}")] {
                let _ = for_the_name(&record);
            }
        }
    }

    fn problem(standing: Standing) -> Option<Problem> {
        let owner = "_validation-persist.a.example".to_string();
        check(Timestamp(NOW), &Proof { owner, record: OURS.to_string(), standing })
    }

    #[test]
    fn the_end_of_a_record_is_told_from_two_weeks_before_to_the_second() {
        let ending = |left: i64| problem(Standing::Valid { until: Some(Timestamp(NOW + left)) });
        let weeks = 14 * 86_400;
        assert_eq!(ending(weeks + 1), None);
        for left in [weeks, weeks - 1, 0] {
            assert_eq!(ending(left).map(|problem| problem.severity), Some(Severity::Warning), "{left}");
        }
        let put = format!("put this there: _validation-persist.a.example TXT \"{OURS}\"");
        let message = format!("a record allows it until 2027-01-15T08:00:00Z; {put}");
        assert_eq!(ending(0), Some(Problem::warning(ProblemKind::PersistRecord, message)));
        assert_eq!(problem(Standing::Valid { until: None }), None);
    }

    #[test]
    fn a_record_that_does_not_stand_is_critical_with_what_to_put_there() {
        let put = format!("put this there: _validation-persist.a.example TXT \"{OURS}\"");
        for standing in [
            Standing::Absent,
            Standing::Expired { at: Timestamp(NOW - 1) },
            Standing::NoWildcard,
            Standing::OtherAccount("x".to_string()),
            Standing::Malformed(Flaw::NoAccount),
        ] {
            let message = format!("{standing}; {put}");
            assert_eq!(problem(standing), Some(Problem::critical(ProblemKind::PersistRecord, message)));
        }
    }
}
