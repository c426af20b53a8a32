//! Text of DVB tables (ETSI EN 300 468, annex A).

/// No name is longer, in characters.
const LONGEST: usize = 64;

/// Read a text; control characters are dropped, what has no meaning becomes U+FFFD. At most 64 characters.
///
/// The default table and those of ISO 8859 are known, UCS-2 and UTF-8. Korean and Chinese in their own tables are not.
pub(super) fn decode(bytes: &[u8]) -> String {
    let (table, text) = match bytes {
        [at @ 0x01..=0x0B, text @ ..] => (Table::iso_8859(u16::from(*at) + 4), text),
        [0x10, a, b, text @ ..] => (Table::iso_8859(u16::from_be_bytes([*a, *b])), text),
        [0x11, text @ ..] => (Table::Ucs2, text),
        [0x15, text @ ..] => (Table::Utf8, text),
        [0x1F, _, text @ ..] | [0x10..0x20, text @ ..] => (Table::Unknown, text),
        text => (Table::Latin, text),
    };
    let text: String = match table {
        Table::Latin => latin(text),
        Table::Half(half) => text.iter().map(|byte| high(half, *byte)).collect(),
        Table::Latin1 => text.iter().map(|byte| char::from(*byte)).collect(),
        Table::Ucs2 => {
            let units = text.as_chunks().0.iter().map(|unit| u16::from_be_bytes(*unit));
            char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
        }
        Table::Utf8 => String::from_utf8_lossy(text).into_owned(),
        Table::Unknown => text
            .iter()
            .map(|byte| if byte.is_ascii() { char::from(*byte) } else { char::REPLACEMENT_CHARACTER })
            .collect(),
    };
    // U+E080 to U+E09F are the control codes in tables of two bytes.
    text.chars().filter(|c| !c.is_control() && !('\u{E080}'..='\u{E09F}').contains(c)).take(LONGEST).collect()
}

enum Table {
    Latin,
    Latin1,
    /// What stands for 0xA0 to 0xFF.
    Half(&'static str),
    Ucs2,
    Utf8,
    Unknown,
}

impl Table {
    fn iso_8859(part: u16) -> Self {
        if part == 1 {
            return Self::Latin1;
        }
        ISO_8859.iter().find(|(number, _)| *number == part).map_or(Self::Unknown, |(_, half)| Self::Half(half))
    }
}

fn high(half: &str, byte: u8) -> char {
    if byte < 0xA0 {
        return char::from(byte);
    }
    half.chars().nth(usize::from(byte) - 0xA0).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// The default table: ISO/IEC 6937 with a euro sign. A byte from 0xC1 to 0xCF puts its mark on the letter that follows.
fn latin(text: &[u8]) -> String {
    let mut out = String::new();
    let mut mark: Option<&(u8, char, &str)> = None;
    for &byte in text {
        if let Some((_, combining, letters)) = mark.take() {
            let letters: Vec<char> = letters.chars().collect();
            let whole = letters.as_chunks::<2>().0.iter().find(|[plain, _]| *plain == char::from(byte));
            match whole {
                Some([_, whole]) => out.push(*whole),
                None => out.extend([high(ISO_6937, byte), *combining]),
            }
            continue;
        }
        mark = MARKS.iter().find(|(at, ..)| *at == byte);
        if mark.is_none() {
            out.push(high(ISO_6937, byte));
        }
    }
    out
}

/// 0xA0 to 0xFF.
const ISO_6937: &str = "\u{A0}¡¢£€¥\u{FFFD}§¤‘“«←↑→↓°±²³×µ¶·÷’”»¼½¾¿\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}―¹®©™♪¬¦\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}⅛⅜⅝⅞ΩÆÐªĦ\u{FFFD}ĲĿŁØŒºÞŦŊŉĸæđðħıĳŀłøœßþŧŋ\u{AD}";

/// The marks: each byte, the mark alone, and letters without it and with it.
const MARKS: [(u8, char, &str); 13] = [
    (0xC1, '\u{300}', "AÀEÈIÌOÒUÙaàeèiìoòuù"),
    (0xC2, '\u{301}', "AÁCĆEÉIÍLĹNŃOÓRŔSŚUÚYÝZŹaácćeéiílĺnńoórŕsśuúyýzź"),
    (0xC3, '\u{302}', "AÂCĈEÊGĜHĤIÎJĴOÔSŜUÛWŴYŶaâcĉeêgĝhĥiîjĵoôsŝuûwŵyŷ"),
    (0xC4, '\u{303}', "AÃIĨNÑOÕUŨaãiĩnñoõuũ"),
    (0xC5, '\u{304}', "AĀEĒIĪOŌUŪaāeēiīoōuū"),
    (0xC6, '\u{306}', "AĂEĔGĞIĬOŎUŬaăeĕgğiĭoŏuŭ"),
    (0xC7, '\u{307}', "CĊEĖGĠIİZŻcċeėgġzż"),
    (0xC8, '\u{308}', "AÄEËIÏOÖUÜYŸaäeëiïoöuüyÿ"),
    (0xCA, '\u{30A}', "AÅUŮaåuů"),
    (0xCB, '\u{327}', "CÇGĢKĶLĻNŅRŖSŞTŢcçgģkķlļnņrŗsştţ"),
    (0xCD, '\u{30B}', "OŐUŰoőuű"),
    (0xCE, '\u{328}', "AĄEĘIĮUŲaąeęiįuų"),
    (0xCF, '\u{30C}', "CČDĎEĚLĽNŇRŘSŠTŤZŽcčdďeělľnňrřsštťzž"),
];

/// The parts of ISO/IEC 8859: 0xA0 to 0xFF.
const ISO_8859: [(u16, &str); 13] = [
    (2, "\u{A0}Ą˘Ł¤ĽŚ§¨ŠŞŤŹ\u{AD}ŽŻ°ą˛ł´ľśˇ¸šşťź˝žżŔÁÂĂÄĹĆÇČÉĘËĚÍÎĎĐŃŇÓÔŐÖ×ŘŮÚŰÜÝŢßŕáâăäĺćçčéęëěíîďđńňóôőö÷řůúűüýţ˙"),
    (
        3,
        "\u{A0}Ħ˘£¤\u{FFFD}Ĥ§¨İŞĞĴ\u{AD}\u{FFFD}Ż°ħ²³´µĥ·¸ışğĵ½\u{FFFD}żÀÁÂ\u{FFFD}ÄĊĈÇÈÉÊËÌÍÎÏ\u{FFFD}ÑÒÓÔĠÖ×ĜÙÚÛÜŬŜßàáâ\u{FFFD}äċĉçèéêëìíîï\u{FFFD}ñòóôġö÷ĝùúûüŭŝ˙",
    ),
    (4, "\u{A0}ĄĸŖ¤ĨĻ§¨ŠĒĢŦ\u{AD}Ž¯°ą˛ŗ´ĩļˇ¸šēģŧŊžŋĀÁÂÃÄÅÆĮČÉĘËĖÍÎĪĐŅŌĶÔÕÖ×ØŲÚÛÜŨŪßāáâãäåæįčéęëėíîīđņōķôõö÷øųúûüũū˙"),
    (5, "\u{A0}ЁЂЃЄЅІЇЈЉЊЋЌ\u{AD}ЎЏАБВГДЕЖЗИЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯабвгдежзийклмнопрстуфхцчшщъыьэюя№ёђѓєѕіїјљњћќ§ўџ"),
    (
        6,
        "\u{A0}\u{FFFD}\u{FFFD}\u{FFFD}¤\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{60C}\u{AD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{61B}\u{FFFD}\u{FFFD}\u{FFFD}\u{61F}\u{FFFD}\u{621}\u{622}\u{623}\u{624}\u{625}\u{626}\u{627}\u{628}\u{629}\u{62A}\u{62B}\u{62C}\u{62D}\u{62E}\u{62F}\u{630}\u{631}\u{632}\u{633}\u{634}\u{635}\u{636}\u{637}\u{638}\u{639}\u{63A}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{640}\u{641}\u{642}\u{643}\u{644}\u{645}\u{646}\u{647}\u{648}\u{649}\u{64A}\u{64B}\u{64C}\u{64D}\u{64E}\u{64F}\u{650}\u{651}\u{652}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}",
    ),
    (
        7,
        "\u{A0}‘’£€₯¦§¨©ͺ«¬\u{AD}\u{FFFD}―°±²³΄΅Ά·ΈΉΊ»Ό½ΎΏΐΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡ\u{FFFD}ΣΤΥΦΧΨΩΪΫάέήίΰαβγδεζηθικλμνξοπρςστυφχψωϊϋόύώ\u{FFFD}",
    ),
    (
        8,
        "\u{A0}\u{FFFD}¢£¤¥¦§¨©×«¬\u{AD}®¯°±²³´µ¶·¸¹÷»¼½¾\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}‗\u{5D0}\u{5D1}\u{5D2}\u{5D3}\u{5D4}\u{5D5}\u{5D6}\u{5D7}\u{5D8}\u{5D9}\u{5DA}\u{5DB}\u{5DC}\u{5DD}\u{5DE}\u{5DF}\u{5E0}\u{5E1}\u{5E2}\u{5E3}\u{5E4}\u{5E5}\u{5E6}\u{5E7}\u{5E8}\u{5E9}\u{5EA}\u{FFFD}\u{FFFD}\u{200E}\u{200F}\u{FFFD}",
    ),
    (9, "\u{A0}¡¢£¤¥¦§¨©ª«¬\u{AD}®¯°±²³´µ¶·¸¹º»¼½¾¿ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏĞÑÒÓÔÕÖ×ØÙÚÛÜİŞßàáâãäåæçèéêëìíîïğñòóôõö÷øùúûüışÿ"),
    (10, "\u{A0}ĄĒĢĪĨĶ§ĻĐŠŦŽ\u{AD}ŪŊ°ąēģīĩķ·ļđšŧž―ūŋĀÁÂÃÄÅÆĮČÉĘËĖÍÎÏÐŅŌÓÔÕÖŨØŲÚÛÜÝÞßāáâãäåæįčéęëėíîïðņōóôõöũøųúûüýþĸ"),
    (
        11,
        "\u{A0}\u{E01}\u{E02}\u{E03}\u{E04}\u{E05}\u{E06}\u{E07}\u{E08}\u{E09}\u{E0A}\u{E0B}\u{E0C}\u{E0D}\u{E0E}\u{E0F}\u{E10}\u{E11}\u{E12}\u{E13}\u{E14}\u{E15}\u{E16}\u{E17}\u{E18}\u{E19}\u{E1A}\u{E1B}\u{E1C}\u{E1D}\u{E1E}\u{E1F}\u{E20}\u{E21}\u{E22}\u{E23}\u{E24}\u{E25}\u{E26}\u{E27}\u{E28}\u{E29}\u{E2A}\u{E2B}\u{E2C}\u{E2D}\u{E2E}\u{E2F}\u{E30}\u{E31}\u{E32}\u{E33}\u{E34}\u{E35}\u{E36}\u{E37}\u{E38}\u{E39}\u{E3A}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{E3F}\u{E40}\u{E41}\u{E42}\u{E43}\u{E44}\u{E45}\u{E46}\u{E47}\u{E48}\u{E49}\u{E4A}\u{E4B}\u{E4C}\u{E4D}\u{E4E}\u{E4F}\u{E50}\u{E51}\u{E52}\u{E53}\u{E54}\u{E55}\u{E56}\u{E57}\u{E58}\u{E59}\u{E5A}\u{E5B}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}",
    ),
    (13, "\u{A0}”¢£¤„¦§Ø©Ŗ«¬\u{AD}®Æ°±²³“µ¶·ø¹ŗ»¼½¾æĄĮĀĆÄÅĘĒČÉŹĖĢĶĪĻŠŃŅÓŌÕÖ×ŲŁŚŪÜŻŽßąįāćäåęēčéźėģķīļšńņóōõö÷ųłśūüżž’"),
    (14, "\u{A0}Ḃḃ£ĊċḊ§Ẁ©ẂḋỲ\u{AD}®ŸḞḟĠġṀṁ¶ṖẁṗẃṠỳẄẅṡÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏŴÑÒÓÔÕÖṪØÙÚÛÜÝŶßàáâãäåæçèéêëìíîïŵñòóôõöṫøùúûüýŷÿ"),
    (15, "\u{A0}¡¢£€¥Š§š©ª«¬\u{AD}®¯°±²³Žµ¶·ž¹º»ŒœŸ¿ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÐÑÒÓÔÕÖ×ØÙÚÛÜÝÞßàáâãäåæçèéêëìíîïðñòóôõö÷øùúûüýþÿ"),
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_default_table_puts_marks_on_letters() {
        assert_eq!(decode(b"Das Erste HD"), "Das Erste HD");
        assert_eq!(decode(b"S\xC8ud \xA4 \xFB\xE1\xF1"), "S\u{FC}d \u{20AC} \u{DF}\u{C6}\u{E6}");
        assert_eq!(decode(b"\xC2e\xC1a\xCBc\xCFs\xC8"), "\u{E9}\u{E0}\u{E7}\u{161}");
        assert_eq!(decode(b"\xC2q"), "q\u{301}", "a letter that has no such mark of its own");
    }

    #[test]
    fn other_tables_are_named_by_the_first_bytes() {
        assert_eq!(decode(b"\x01\xBF\xD5\xE0\xD2\xEB\xD9"), "\u{41F}\u{435}\u{440}\u{432}\u{44B}\u{439}");
        assert_eq!(decode(b"\x05\xDD\xFE"), "\u{130}\u{15F}", "ISO 8859-9");
        assert_eq!(decode(b"\x10\x00\x01\xFC"), "\u{FC}");
        assert_eq!(decode(b"\x10\x00\x0F\xA4"), "\u{20AC}");
        assert_eq!(decode(b"\x10\x00\x02\xB1"), "\u{105}");
        assert_eq!(decode(b"\x11\x04\x1F\x00a"), "\u{41F}a");
        assert_eq!(decode(b"\x15caf\xC3\xA9"), "caf\u{E9}");
        assert_eq!(decode(b"\x13A\xB0"), "A\u{FFFD}");
    }

    #[test]
    fn control_characters_are_dropped_and_length_is_bounded() {
        assert_eq!(decode(b"\x86Das\x87 \x8AErste\n"), "Das Erste");
        assert_eq!(decode(&[b'x'; 255]).len(), LONGEST);
        assert_eq!(decode(&[]), "");
    }

    #[test]
    fn every_table_has_96_places() {
        for (_, half) in ISO_8859 {
            assert_eq!(half.chars().count(), 96);
        }
        assert_eq!(ISO_6937.chars().count(), 96);
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let text = decode(&bytes);
            prop_assert!(text.chars().count() <= LONGEST && !text.chars().any(char::is_control));
        }
    }
}
