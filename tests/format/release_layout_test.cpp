#include "format/release_layout.h"

#include <doctest/doctest.h>

#include "tests/support/check_error.h"

using namespace sluice;
using base::ErrorKind;
using format::check_release_names;
using format::check_release_path;

namespace {

format::ReleaseLayout layout_of(std::string name, const std::vector<std::string>& paths) {
  format::ReleaseLayout layout;
  layout.name = std::move(name);
  for (const std::string& path : paths) layout.files.emplace_back().path = path;
  return layout;
}

}  // namespace

TEST_CASE("paths that releases really have are accepted") {
  for (const std::string path :
       {"consolidated.00.pth", "ckpt-0/tensor00000_000", "a b/c (1).txt", ".pad/4096", "...", "a..b", "..a",
        "-rf", "模型/权重.bin", "Ärger.txt", "a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p"}) {
    CAPTURE(path);
    CHECK_NOTHROW(check_release_path(path, "t"));
  }
  CHECK_NOTHROW(check_release_path(std::string(255, 'x'), "t"));
}

TEST_CASE("paths that could harm or confuse are refused by name and cause") {
  const struct {
    std::string path, cause;
  } cases[] = {
      {"", "is empty"},
      {"/etc/passwd", "is absolute"},
      {"../x", "'..'"},
      {"a/../x", "'..'"},
      {"a/..", "'..'"},
      {"./a", "'.'"},
      {"a/.", "'.'"},
      {"a//b", "empty element"},
      {"a/", "empty element"},
      {"/", "is absolute"},
      {"a\\b", "backslash"},
      {"C:\\x", "backslash"},
      {std::string("a\0b", 3), "control character"},
      {"a\nb", "control character"},
      {"a\x1b[2J", "control character"},
      {"a\x7f", "control character"},
      {"a\u0085", "control character"},
      {"a\u202Ehtp.exe", "control character"},
      {"a\u2066b", "control character"},
      {"a\u2069b", "control character"},
      {"a\u200Eb", "control character"},
      {"a\u200Fb", "control character"},
      {"a\u061Cb", "control character"},
      {"\uFEFFa", "control character"},
      {"a\xff", "not UTF-8"},
      {"a\xc0\xaf", "not UTF-8"},          // an overlong '/'
      {"a\xed\xa0\x80", "not UTF-8"},      // a surrogate
      {"a\xf4\x90\x80\x80", "not UTF-8"},  // above U+10FFFF
      {"a\xe2\x80", "not UTF-8"},          // cut off
      {std::string(256, 'x'), "256 bytes"},
      {"a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p/q", "17 elements"},
  };
  for (const auto& [path, cause] : cases) {
    CAPTURE(cause);
    CHECK_ERROR(check_release_path(path, "x.torrent"), ErrorKind::malformed, cause);
    CHECK_ERROR(check_release_path(path, "x.torrent"), ErrorKind::malformed, "x.torrent: unsafe file name '");
  }
}

TEST_CASE("a refusal cannot itself write to the terminal") {
  try {
    check_release_path("a\x1b[2J\u202E", "x.torrent");
    FAIL("accepted");
  } catch (const base::Error& error) {
    const std::string message = error.what();
    CHECK(message.find('\x1b') == std::string::npos);
    CHECK(message.find("\u202E") == std::string::npos);
  }
}

TEST_CASE("two files that are one where case or composition is ignored are found, and not published") {
  const char* kClashes[][2] = {
      {"README", "readme"},       {"x/Weights.bin", "X/weights.BIN"},
      {"stra\u00DFe", "STRASSE"},  // full case folding
      {"\u00E9", "e\u0301"},       // NFC against NFD
      {"\u00C9", "e\u0301"},       // both at once
      {"\u03A3", "\u03C2"},        // capital and final sigma
      {"\u212B", "\u00E5"},        // Angstrom sign
  };
  for (const auto& [first, second] : kClashes) {
    CAPTURE(first);
    const auto layout = layout_of("r", {first, "other", second});
    CHECK_NOTHROW(check_release_names(layout, "t"));
    const auto clash = format::find_case_clash(layout);
    REQUIRE(clash);
    CHECK(clash->first == first);
    CHECK(clash->second == second);
    CHECK_ERROR(format::check_portable_names(layout, "t"), ErrorKind::malformed, "where case is ignored");
  }
  CHECK_ERROR(check_release_names(layout_of("r", {"a", "other", "a"}), "t"), ErrorKind::malformed,
              "'a': stands twice in the list of files");
  CHECK(format::find_case_clash(layout_of("r", {"A/b/c", "z", "a/B"})));
  CHECK_FALSE(format::find_case_clash(layout_of("r", {"a/x", "b/x", "A/y", "x"})));
  CHECK_NOTHROW(check_release_names(layout_of("r", {"a/x", "b/x", "a/y", "x"}), "t"));
  CHECK_NOTHROW(check_release_names(layout_of("r", {"r", "r2"}), "t"));
}

TEST_CASE("a path cannot be a file and a folder") {
  CHECK_ERROR(check_release_names(layout_of("r", {"a", "a/b"}), "t"), ErrorKind::malformed,
              "both a file and a folder");
  CHECK_ERROR(check_release_names(layout_of("r", {"A/b/c", "z", "A/b"}), "t"), ErrorKind::malformed,
              "'A/b': is both a file and a folder");
}

TEST_CASE("a release's name is one safe element") {
  CHECK_ERROR(check_release_names(layout_of("..", {"a"}), "t"), ErrorKind::malformed, "'..'");
  CHECK_ERROR(check_release_names(layout_of("", {"a"}), "t"), ErrorKind::malformed, "is empty");
  CHECK_ERROR(check_release_names(layout_of("a/b", {"a"}), "t"), ErrorKind::malformed, "one element");
  CHECK_ERROR(check_release_names(layout_of("r", {"a", "b/../../c"}), "t"), ErrorKind::malformed, "'..'");
}

TEST_CASE("a release cannot stand in Sluice's own folder") {
  CHECK_ERROR(check_release_names(layout_of(".sluice", {"a"}), "t"), ErrorKind::malformed, "its own files");
  CHECK_ERROR(check_release_names(layout_of(".Sluice", {"a"}), "t"), ErrorKind::malformed, "its own files");
  CHECK_ERROR(check_release_names(layout_of("r", {".SLUICE/journal"}), "t"), ErrorKind::malformed,
              "its own files");
  CHECK_NOTHROW(check_release_names(layout_of("r", {".sluice2", "a/.sluice"}), "t"));
}

TEST_CASE("pad files may share a name, and do not count as payload") {
  auto layout = layout_of("r", {"a", ".pad/100", "b", ".pad/100"});
  for (auto& file : layout.files) file.length_bytes = 100;
  layout.files[1].pad = layout.files[3].pad = true;
  CHECK_NOTHROW(check_release_names(layout, "t"));
  CHECK(layout.payload_bytes() == 200);
  layout.files[3].pad = false;
  CHECK_NOTHROW(check_release_names(layout, "t"));
  layout.files[1].pad = false;
  CHECK_ERROR(check_release_names(layout, "t"), ErrorKind::malformed, "stands twice");
}
