// Reading .torrent files: valid ones of every version, and a table of refused ones.

#include <doctest/doctest.h>

#include <libtorrent/load_torrent.hpp>
#include <libtorrent/torrent_info.hpp>

#include "base/hasher.h"
#include "base/merkle.h"
#include "fetch/torrent/torrent_file.h"
#include "tests/fetch/fetch_support.h"
#include "tests/fetch/lt_support.h"
#include "tests/support/check_error.h"

using namespace sluice;
using namespace sluice::tests;
using base::ErrorKind;

namespace {

std::string text(std::string_view value) { return std::to_string(value.size()) + ":" + std::string(value); }

const std::string kPieces1 = "6:pieces" + text(std::string(20, 'h'));
const std::string kRoot = text(std::string(32, 'r'));

std::string with_info(const std::string& info) { return "d4:info" + info + "e"; }

/// A v1 torrent "t" with these entries in its file list and this many pieces of 16 KiB.
std::string v1(const std::string& files, std::size_t pieces = 1) {
  return with_info("d5:filesl" + files + "e4:name1:t12:piece lengthi16384e6:pieces" +
                   text(std::string(20 * pieces, 'h')) + "e");
}
std::string v1_file(const std::string& name, const std::string& length = "5",
                    const std::string& before = "") {
  return "d" + before + "6:lengthi" + length + "e4:pathl" + text(name) + "ee";
}
std::string v1_path(const std::string& elements) { return "d6:lengthi5e4:pathl" + elements + "ee"; }

std::string v2(const std::string& tree, const std::string& piece_bytes = "16384",
               const std::string& layers = "") {
  return "d4:infod9:file treed" + tree + "e12:meta versioni2e4:name1:t12:piece lengthi" + piece_bytes + "ee" +
         layers + "e";
}
std::string v2_leaf(const std::string& length = "5", const std::string& root = kRoot,
                    const std::string& before = "") {
  return "d0:d" + before + "6:lengthi" + length + "e11:pieces root" + root + "ee";
}

void refused(const std::string& torrent, const std::string& part) {
  CAPTURE(torrent);
  CHECK_ERROR(fetch::parse_torrent(torrent, "x.torrent"), ErrorKind::malformed, part);
}

}  // namespace

TEST_CASE("torrents of every version are read as libtorrent made them") {
  const TempDir dir;
  write_files(dir / "model", sample_files());
  for (const LtVersion version : {LtVersion::v1, LtVersion::v2, LtVersion::hybrid}) {
    CAPTURE(static_cast<int>(version));
    const std::string content = make_lt_torrent(dir / "model", version);
    const auto layout = fetch::parse_torrent(content, "x.torrent");
    const lt::torrent_info info(content, lt::from_span);
    CHECK(layout.name == "model");
    CHECK_FALSE(layout.single_file);
    CHECK(layout.piece_bytes == 16384);
    CHECK(layout.infohash_v1.has_value() == info.info_hashes().has_v1());
    CHECK(layout.infohash_v2.has_value() == info.info_hashes().has_v2());
    if (layout.infohash_v1)
      CHECK((base::as_text(layout.infohash_v1->bytes) == info.info_hashes().v1.to_string()));
    if (layout.infohash_v2)
      CHECK((base::as_text(layout.infohash_v2->bytes) == info.info_hashes().v2.to_string()));
    std::map<std::string, std::uint64_t> lengths;
    for (const auto& file : layout.files) {
      if (file.pad) continue;
      lengths[file.path] = file.length_bytes;
      const std::string content_of = sample_files().at(file.path);
      CHECK(file.root.has_value() == (version != LtVersion::v1 && !content_of.empty()));
      if (file.root) CHECK((*file.root == base::merkle_digest(base::as_bytes(content_of))));
    }
    CHECK(lengths.size() == sample_files().size());
    for (const auto& [path, file] : sample_files()) CHECK(lengths.at(path) == file.size());
    CHECK(layout.v1_pieces.empty() == (version == LtVersion::v2));
  }
}

TEST_CASE("a torrent that is written is read as it was") {
  const TempDir dir;
  write_files(dir / "model", sample_files());
  for (const LtVersion version : {LtVersion::v1, LtVersion::v2, LtVersion::hybrid}) {
    auto torrent = fetch::parse_torrent_file(make_lt_torrent(dir / "model", version), "x.torrent");
    torrent.trackers = {"udp://a.example:1", "udp://b.example:2"};
    torrent.web_seeds = {"https://c.example/"};
    const TempDir copy;
    fetch::write_torrent(copy / "t.torrent", torrent);
    CHECK((read_text(copy / "t.torrent") == fetch::to_text(torrent)));
    const auto again = fetch::parse_torrent_file(fetch::to_text(torrent), "y.torrent");
    CHECK((again.info == torrent.info));
    CHECK((again.trackers == torrent.trackers));
    CHECK((again.web_seeds == torrent.web_seeds));
    REQUIRE(again.layout.files.size() == torrent.layout.files.size());
    for (std::size_t i = 0; i < again.layout.files.size(); ++i)
      CHECK((again.layout.files[i].piece_layer == torrent.layout.files[i].piece_layer));
  }
}

TEST_CASE("the UTF-8 names that old makers wrote beside others are used") {
  const auto layout = fetch::parse_torrent(
      with_info("d5:filesld6:lengthi5e4:pathl1:?e10:path.utf-8l1:aeee4:name1:?10:name.utf-81:t12:piece "
                "lengthi16384e" +
                kPieces1 + "e"),
      "x.torrent");
  CHECK(layout.name == "t");
  CHECK(layout.files.at(0).path == "a");
}

TEST_CASE("pad files are read as such and may share a name") {
  const auto layout =
      fetch::parse_torrent(v1(v1_file("a", "5") + v1_file(".pad", "16379", "4:attr1:p") + v1_file("b", "5") +
                                  v1_file(".pad", "16379", "4:attr1:p") + v1_file("c", "5"),
                              3),
                           "x.torrent");
  REQUIRE(layout.files.size() == 5);
  CHECK(layout.files[1].pad);
  CHECK(layout.files[3].pad);
  CHECK(layout.payload_bytes() == 15);
}

TEST_CASE("a v1 piece length may be any number, a v2 one may not") {
  CHECK(fetch::parse_torrent(with_info("d6:lengthi5e4:name1:t12:piece lengthi7e" + kPieces1 + "e"), "x")
            .piece_bytes == 7);
  refused(v2("1:a" + v2_leaf(), "8192"), "'piece length' is 8192");
  refused(v2("1:a" + v2_leaf(), "49152"), "'piece length' is 49152");
  refused(v2("1:a" + v2_leaf(), "0"), "'piece length' is 0");
  refused(v2("1:a" + v2_leaf(), "-16384"), "'piece length' is negative");
  refused(v2("1:a" + v2_leaf(), "1073741824"), "'piece length' is 1073741824");
}

TEST_CASE("what is no torrent is refused") {
  refused("", "is not a .torrent file");
  refused("hello", "is not a .torrent file");
  refused("i5e", "is not a dictionary");
  refused("de", "key 'info' is missing");
  refused("d4:infoi5ee", "key 'info' is not a dictionary");
  refused(with_info("de"), "'name' is missing");
  refused(with_info("d4:namei5ee"), "'name' is not a string");
  refused(with_info("d4:name1:te"), "'piece length' is missing");
  refused(with_info("d4:name1:t12:piece length1:xe"), "'piece length' is not an integer");
  refused(std::string(200, 'l') + std::string(200, 'e'), "is not a .torrent file");  // nested too deep
}

TEST_CASE("unsafe names are refused") {
  const auto name = [](const std::string& value) {
    return with_info("d6:lengthi5e4:name" + text(value) + "12:piece lengthi16384e" + kPieces1 + "e");
  };
  const std::vector<std::string> bad_names{"",
                                           ".",
                                           "..",
                                           "a/b",
                                           "/",
                                           "a\nb",
                                           std::string("a\0b", 3),
                                           "\xe2\x80\xae"
                                           "gpj.exe"};
  for (const std::string& bad : bad_names) refused(name(bad), "unsafe file name");
  refused(name(std::string(256, 'a')), "256 bytes");
  for (const std::string bad : {"", ".", "..", "a/b", "/etc", "../x", "a\x1b", "\xe2\x80\xae"})
    refused(v1(v1_file(bad)), "unsafe file name");
  refused(v1(v1_path("")), "unsafe file name");
  refused(v1(v1_path("1:a2:..1:b")), "unsafe file name 'a/../b'");
  refused(v1(v1_path("1:a0:1:b")), "unsafe file name");
  refused(v1(v1_path("1:ai5e")), "an element that is not a string");
  std::string deep;
  for (int i = 0; i < 17; ++i) deep += "1:a";
  refused(v1(v1_path(deep)), "17 elements");
  for (const std::string bad : {"..", "a/b", "\x7f"}) refused(v2(text(bad) + v2_leaf()), "unsafe file name");
  refused(v2("1:ad2:.." + v2_leaf() + "e"), "unsafe file name 'a/..'");
}

TEST_CASE("bytes after the end are ignored with a warning, but not after an info dictionary from peers") {
  const auto layout = fetch::parse_torrent(v1(v1_file("a")) + "\r\n", "x.torrent");
  CHECK(layout.files.size() == 1);
  CHECK(layout.warnings ==
        std::vector<std::string>{"the torrent has 2 bytes after its end, which are ignored"});
  CHECK((layout.infohash_v1 == fetch::parse_torrent(v1(v1_file("a")), "x").infohash_v1));
  CHECK((fetch::parse_torrent_file(v1(v1_file("a")) + "x", "x").info ==
         fetch::parse_torrent_file(v1(v1_file("a")), "x").info));
  const std::string info = fetch::parse_torrent_file(v1(v1_file("a")), "x").info;
  CHECK(fetch::parse_info(info, "x").files.size() == 1);
  CHECK_ERROR(fetch::parse_info(info + "x", "x"), ErrorKind::malformed, "x: has 1 bytes after its end");
}

TEST_CASE("names of old makers are converted to UTF-8 with a warning") {
  const auto read = [](const std::string& name, const std::string& encoding) {
    std::string torrent = v1(v1_file(name) + v1_file("plain"));
    if (!encoding.empty()) torrent.insert(1, "8:encoding" + text(encoding));
    return fetch::parse_torrent_file(torrent, "x");
  };
  struct {
    std::string bytes, encoding, name, read_as, kept;
  } const cases[] = {
      {"caf\xe9.bin", "", "caf\u00E9.bin", "WINDOWS-1252", ""},
      {"\x93quoted\x94", "ISO-2022-CN-EXT", "\u201Cquoted\u201D", "WINDOWS-1252",
       ""},                                       // not a known encoding
      {"a\x81z", "", "a_z", "WINDOWS-1252", ""},  // Windows-1252 lacks 0x81
      {"\xc4\xa3\xd0\xcd", "gbk", "\u6A21\u578B", "GBK", "GBK"},
      {"\x83\x5c.bin", "Shift_JIS", "\u30BD.bin", "SHIFT_JIS",
       "SHIFT_JIS"},  // its second byte is a backslash
      {"\xec\xee\xe4", "windows-1251", "\u043C\u043E\u0434", "WINDOWS-1251", "WINDOWS-1251"},
      {"\u6A21\u578B", "GBK", "\u6A21\u578B", "", ""},  // UTF-8 after all
  };
  for (const auto& each : cases) {
    CAPTURE(each.name);
    const auto torrent = read(each.bytes, each.encoding);
    CHECK(torrent.layout.files.at(0).path == each.name);
    CHECK(torrent.layout.files.at(1).path == "plain");
    CHECK(torrent.encoding == each.kept);
    const std::string warning =
        "1 file name not in UTF-8, read as " + each.read_as + "; the first is now '" + each.name + "'";
    CHECK(torrent.layout.warnings ==
          (each.read_as.empty() ? std::vector<std::string>() : std::vector<std::string>{warning}));
    // A copy of the torrent gives the same names.
    CHECK(fetch::parse_torrent(fetch::to_text(torrent), "y").files.at(0).path == each.name);
  }
}

TEST_CASE("backslashes in names become underscores with a warning, and cannot lead out of the folder") {
  const auto layout = fetch::parse_torrent(v1(v1_file("sub\\a") + v1_file("..\\..\\b")), "x");
  CHECK(layout.files.at(0).path == "sub_a");
  CHECK(layout.files.at(1).path == ".._.._b");
  CHECK(layout.warnings == std::vector<std::string>{
                               "2 file names with a backslash, which becomes '_'; the first is now 'sub_a'"});
  refused(v1(v1_file("sub\\a") + v1_file("sub_a")), "'sub_a': stands twice");
  const auto tree = fetch::parse_torrent(v2(text("a\\b") + v2_leaf()), "x");
  CHECK(tree.files.at(0).path == "a_b");
}

TEST_CASE("bencode tokens are counted as libtorrent counts them") {
  for (const std::string& content :
       {std::string("de"), v1(v1_file("a")), v2("1:a" + v2_leaf()), std::string("li-5e0:3:abcdee")}) {
    lt::error_code error;
    int position = 0;
    const int tokens = static_cast<int>(fetch::count_tokens(content));
    CAPTURE(content);
    static_cast<void>(lt::bdecode(content, error, &position, 100, tokens));
    CHECK_FALSE(error);
    static_cast<void>(lt::bdecode(content, error, &position, 100, tokens - 2));
    CHECK(error);
  }
  CHECK(fetch::count_tokens("") == 1);
  CHECK(fetch::count_tokens("5:ab") == 2);
  CHECK(fetch::count_tokens("i5") == 2);
}

TEST_CASE("names that are equal are refused, and names that differ in case are two") {
  refused(v1(v1_file("a") + v1_file("a")), "stands twice");
  CHECK(fetch::parse_torrent(v1(v1_file("Readme") + v1_file("README")), "x").files.size() == 2);
  refused(v1(v1_file("a") + v1_path("1:a1:b")), "both a file and a folder");
  refused(v1(v1_path("1:a1:b") + v1_file("a-") + v1_file("a.x") + v1_file("a")),
          "'a': is both a file and a folder");
  CHECK(fetch::parse_torrent(v2("1:A" + v2_leaf() + "1:a" + v2_leaf()), "x").files.size() == 2);
}

TEST_CASE("links are refused, and programs are plain files") {
  refused(v1(v1_file("a", "5", "4:attr1:l")), "symbolic links are not supported");
  CHECK_FALSE(fetch::parse_torrent(v1(v1_file("a", "5", "4:attr2:hx")), "x").files.at(0).pad);
  refused(v1("d6:lengthi5e4:pathl1:ae12:symlink pathl1:bee"), "symbolic link");
  CHECK(fetch::parse_torrent(
            with_info("d4:attr1:x6:lengthi5e4:name1:t12:piece lengthi16384e" + kPieces1 + "e"), "x")
            .single_file);
  refused(v2("1:a" + v2_leaf("5", kRoot, "4:attr1:l")), "symbolic links are not supported");
  CHECK(fetch::parse_torrent(v2("1:a" + v2_leaf("5", kRoot, "4:attr1:x")), "x").files.size() == 1);
  refused(v2("1:a" + v2_leaf("5", kRoot, "4:attr1:p")), "a file tree has no pad files");
}

TEST_CASE("lengths that are negative, too large or do not fit the pieces are refused") {
  refused(v1(v1_file("a", "-1")), "'length' is negative: -1");
  refused(v1(v1_file("a", "9223372036854775807")), "more than 2^48");
  refused(v1(v1_file("a", "9223372036854775808")), "'length' does not fit 64 bits");
  refused(v1(v1_file("a", "99999999999999999999999")), "integer overflow");
  refused(v1(v1_file("a", "140737488355328") + v1_file("b", "140737488355328")), "more than 2^48");
  refused(v1(v1_file("a", "100000000000000")), "pieces, expected at most 4194304");
  refused(v2("1:a" + v2_leaf("100000000000000")), "pieces, expected at most 4194304");
  refused(v1(v1_file("a", "16385")), "'pieces' has 20 bytes, expected 40 for 2 pieces");
  refused(v1(v1_file("a", "16384"), 2), "'pieces' has 40 bytes, expected 20");
  refused(v1(v1_file("a", "0"), 0), "holds no bytes");
  refused(v1("", 0), "holds no bytes");
  refused(with_info("d6:lengthi5e4:name1:t12:piece lengthi16384e6:pieces" + text(std::string(19, 'h')) + "e"),
          "'pieces' has 19 bytes");
  refused(v1(v1_file(".pad", "5", "4:attr1:p")), "holds no bytes");
}

TEST_CASE("metadata that is made to exhaust memory is refused") {
  refused("l" + std::string(5'000'000, '0') + "e", "is not a .torrent file");
  std::string many = "l";
  for (int i = 0; i < fetch::kTokensMax; ++i) many += "de";
  refused(many + "e", "is not a .torrent file");  // too many tokens
  std::string files;
  for (int i = 0; i <= 1 << 18; ++i) files += v1_file(std::to_string(i), "1");
  refused(v1(files), "has more than 262144 files");
  // 15 folders of 255 bytes stand once, and before every file's name.
  std::string tree;
  for (int i = 0; i < 9000; ++i) tree += text("f" + std::to_string(10'000 + i)) + v2_leaf("0");
  for (int depth = 0; depth < 15; ++depth) tree = text(std::string(255, 'd')) + "d" + tree + "e";
  refused(v2(tree), "has more than 33554432 bytes of file names");
}

TEST_CASE("what a torrent names beside the release is bounded") {
  std::string trackers;
  for (int i = 0; i < 200; ++i) trackers += "l" + text("udp://" + std::to_string(i) + ".example:1") + "e";
  const std::string torrent = "d8:announce" + text(std::string(10'000, 'a')) + "13:announce-listl" +
                              trackers + "e4:infod5:filesl" + v1_file("a") +
                              "e4:name1:t12:piece lengthi16384e" + kPieces1 + "ee";
  const auto parsed = fetch::parse_torrent_file(torrent, "x");
  CHECK(parsed.trackers.size() == 100);
  CHECK(parsed.trackers.front() == "udp://0.example:1");
}

TEST_CASE("contradicting file lists are refused") {
  refused(with_info("d4:name1:t12:piece lengthi16384e" + kPieces1 + "e"), "expected one of the keys");
  const auto both = fetch::parse_torrent(
      with_info("d5:filesl" + v1_file("a") + "e6:lengthi5e4:name1:t12:piece lengthi16384e" + kPieces1 + "e"),
      "x");
  CHECK(both.files.at(0).path == "a");
  CHECK_FALSE(both.single_file);
  CHECK(both.warnings ==
        std::vector<std::string>{"the torrent has both 'files' and 'length'; 'length' is ignored"});
  refused(with_info("d9:file treed1:a" + v2_leaf() +
                    "e6:lengthi5e12:meta versioni2e4:name1:t12:piece lengthi16384ee"),
          "a v1 file list without 'pieces'");
  refused(with_info("d12:meta versioni3e4:name1:te"), "'meta version' is 3");
  const auto hybrid = [](const std::string& tree, const std::string& files, std::size_t pieces) {
    return with_info("d9:file treed" + tree + "e5:filesl" + files +
                     "e12:meta versioni2e4:name1:t12:piece lengthi16384e6:pieces" +
                     text(std::string(20 * pieces, 'h')) + "e");
  };
  const std::string a = "1:a" + v2_leaf();
  const std::string pad = v1_file("p", "16379", "4:attr1:p");
  CHECK(fetch::parse_torrent(hybrid(a + "1:b" + v2_leaf(), v1_file("a") + pad + v1_file("b"), 2), "x")
            .files.size() == 3);
  refused(hybrid(a, v1_file("b"), 1), "differ at 'b'");
  refused(hybrid(a, v1_file("a", "6"), 1), "differ at 'a'");
  refused(hybrid(a, v1_file("a") + pad + v1_file("b"), 2), "differ at 'b'");
  refused(hybrid(a + "1:b" + v2_leaf(), v1_file("a"), 1), "lacks 'b'");
  refused(hybrid(a + "1:b" + v2_leaf(), v1_file("a") + v1_file("b"), 1),
          "starts at byte 5, which is inside a piece");
}

TEST_CASE("broken file trees are refused") {
  refused(v2(""), "is an empty folder");
  refused(v2("1:ade"), "'a' is an empty folder");
  refused(v2("1:ai5e"), "'a' is not a dictionary");
  refused(v2("1:ad0:d6:lengthi0ee1:b" + v2_leaf() + "e"), "'a' is both a file and a folder");
  refused(v2("0:d6:lengthi5e11:pieces root" + kRoot + "e"), "both a file and a folder");
  refused(v2("1:ad0:d6:lengthi5eee"), "'pieces root' is missing");
  refused(v2("1:a" + v2_leaf("5", text("short"))), "'pieces root' has 5 bytes");
  refused(v2("1:ad0:i5ee"), "is not a dictionary");
}

TEST_CASE("piece layers must belong to their roots") {
  const std::string data = noise(5, 40'000);
  base::LeafHasher hasher;
  hasher.update(base::as_bytes(data));
  const auto leaves = hasher.final();
  const std::string root = text(base::as_text(base::merkle_root(leaves).bytes));
  const auto layers = [&](const std::string& layer) { return "12:piece layersd" + root + text(layer) + "e"; };
  const std::string layer(base::as_text(std::as_bytes(std::span(leaves))));
  const std::string tree = "1:a" + v2_leaf("40000", root);

  const auto good = fetch::parse_torrent(v2(tree, "16384", layers(layer)), "x");
  CHECK((good.files.at(0).piece_layer == leaves));
  CHECK(fetch::parse_torrent(v2(tree, "16384"), "x").files.at(0).piece_layer.empty());
  std::string damaged = layer;
  damaged[40] = static_cast<char>(damaged[40] ^ 1);
  refused(v2(tree, "16384", layers(damaged)), "does not belong to its pieces root");
  refused(v2(tree, "16384", layers(layer.substr(32))), "has 64 bytes, expected 96");
  refused(v2(tree, "16384", layers(layer + layer)), "has 192 bytes, expected 96");
  refused(v2(tree, "16384", "12:piece layersd" + root + "i5ee"), "not a string");
  refused(v2(tree, "16384", "12:piece layersi5e"), "'piece layers' is not a dictionary");
}

TEST_CASE("a torrent cut at any byte is refused") {
  const TempDir dir;
  write_files(dir / "model", {{"a", noise(1, 40'000)}, {"b/c", "x"}});
  const std::string content = make_lt_torrent(dir / "model", LtVersion::hybrid);
  static_cast<void>(fetch::parse_torrent(content, "x"));
  for (std::size_t length = 0; length < content.size(); ++length) {
    bool threw = false;
    try {
      static_cast<void>(fetch::parse_torrent(content.substr(0, length), "x"));
    } catch (const base::Error& error) {
      threw = error.kind() == ErrorKind::malformed;
    }
    REQUIRE_MESSAGE(threw, "cut at byte " << length);
  }
}

TEST_CASE("no single damaged byte makes the reader fail otherwise than by an Error") {
  const TempDir dir;
  write_files(dir / "model", {{"a", noise(1, 40'000)}, {"b/c", "x"}});
  const std::string content = make_lt_torrent(dir / "model", LtVersion::hybrid);
  std::size_t refusals = 0;
  for (std::size_t at = 0; at < content.size(); ++at) {
    for (const char flip : {'\x01', '\x10', '\x80'}) {
      std::string damaged = content;
      damaged[at] = static_cast<char>(damaged[at] ^ flip);
      try {
        static_cast<void>(fetch::parse_torrent(damaged, "x"));
      } catch (const base::Error& error) {
        REQUIRE(error.kind() == ErrorKind::malformed);
        ++refusals;
      }
    }
  }
  CHECK(refusals > 0);
}

TEST_CASE("read_torrent names the file") {
  const TempDir dir;
  write_text(dir / "x.torrent", "junk");
  CHECK_ERROR(fetch::read_torrent(dir / "x.torrent"), ErrorKind::malformed, "x.torrent: is not a .torrent file");
  CHECK_ERROR(fetch::read_torrent(dir / "none.torrent"), ErrorKind::io, "none.torrent");
}
