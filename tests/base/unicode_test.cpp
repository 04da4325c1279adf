#include "base/unicode.h"

#include <doctest/doctest.h>

using namespace sluice::base;

TEST_CASE("normal form C composes letters and accents, and refuses what is not UTF-8") {
  CHECK(to_nfc("e\u0301") == "\u00E9");
  CHECK(to_nfc("\u00E9 \u6A21") == "\u00E9 \u6A21");
  CHECK(to_nfc("") == "");
  CHECK_FALSE(to_nfc("\xC3").has_value());
  CHECK_FALSE(to_nfc("a\xFFz").has_value());
}

TEST_CASE("names that differ only in case or composition fold to the same text") {
  CHECK(fold_case("MODEL") == fold_case("model"));
  CHECK(fold_case("\u00C9") == fold_case("e\u0301"));
  CHECK(fold_case("STRASSE") == fold_case("stra\u00DFe"));
  CHECK(fold_case("a") != fold_case("b"));
  CHECK_FALSE(fold_case("\xE2\x82").has_value());
}

TEST_CASE("columns are those of a terminal") {
  CHECK(display_columns("") == 0);
  CHECK(display_columns("abc") == 3);
  CHECK(display_columns("\u00E9") == 1);
  CHECK(display_columns("e\u0301") == 1);       // combining acute accent
  CHECK(display_columns("\u6A21\u578B") == 4);  // two ideographs
  CHECK(display_columns("\uFF21") == 2);        // full-width A
  CHECK(display_columns("a\xFF\xC3") == 3);     // each malformed byte is shown as one replacement character
}
