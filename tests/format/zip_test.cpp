#include <doctest/doctest.h>

#include <functional>
#include <string>

#include "base/file.h"
#include "format/zip_index.h"
#include "tests/support/check_error.h"
#include "tests/support/pth_writer.h"
#include "tests/support/temp_dir.h"

namespace sluice::format {
namespace {

using base::ErrorKind;
using tests::make_zip;
using tests::TempDir;
using tests::ZipPart;
using namespace std::string_literals;

class ZipFixture {
 protected:
  std::vector<ZipMember> index_of(const std::string& bytes) {
    tests::write_plainly(path_, bytes);
    return read_zip_index(base::File::open_read(path_));
  }

  std::string content(const ZipMember& member) {
    const auto bytes = read_zip_member(base::File::open_read(path_), member, 1 << 20);
    return std::string(base::as_text(bytes));
  }

  TempDir folder_;
  std::filesystem::path path_ = folder_ / "x.zip";
};

const std::vector<ZipPart> kParts{{.name = "a/first", .bytes = "one"},
                                  {.name = "a/empty", .bytes = "", .flags = 0x0800},
                                  {.name = "a/second", .bytes = std::string(1000, 'x')}};

/// kParts with a change to its first member.
std::string with(const std::function<void(ZipPart&)>& change) {
  auto parts = kParts;
  change(parts[0]);
  return make_zip(parts);
}

std::string patched(std::string bytes, std::size_t offset, std::string_view value) {
  bytes.replace(offset, value.size(), value);
  return bytes;
}

TEST_CASE_FIXTURE(ZipFixture, "a zip file is read in each of the forms that torch and others write") {
  auto wide = kParts;
  for (ZipPart& part : wide) part.zip64 = true;
  auto plain = kParts;
  for (ZipPart& part : plain) part.flags = 0;
  auto wide_plain = wide;
  for (ZipPart& part : wide_plain) part.flags = 0x0800;
  for (const auto& parts : {kParts, wide, plain, wide_plain}) {
    for (const bool zip64_end : {true, false}) {
      const auto members = index_of(make_zip(parts, zip64_end));
      REQUIRE(members.size() == 3);
      for (std::size_t i = 0; i < 3; ++i) {
        CHECK(members[i].name == parts[i].name);
        CHECK(content(members[i]) == parts[i].bytes);
        CHECK(members[i].offset_bytes % 64 == 0);
      }
    }
  }
}

TEST_CASE_FIXTURE(ZipFixture, "a zip file without members is an empty list") {
  CHECK(index_of(make_zip({})).empty());
  CHECK(index_of(make_zip({}, false)).empty());
}

TEST_CASE_FIXTURE(ZipFixture, "a CRC that does not match is refused, one of 0 was not computed") {
  CHECK_ERROR(content(index_of(with([](ZipPart& part) { part.crc32 = 1; }))[0]), ErrorKind::malformed,
              "x.zip: zip member 'a/first': is damaged: its CRC-32 does not match");
  CHECK(content(index_of(with([](ZipPart& part) { part.crc32 = 0; }))[0]) == "one");
  const auto members = index_of(make_zip(kParts));
  CHECK_ERROR(read_zip_member(base::File::open_read(path_), members[2], 999), ErrorKind::malformed,
              "has 1000 bytes, more than the 999 that are read");
}

TEST_CASE_FIXTURE(ZipFixture, "zip members of a kind that torch does not write are refused by name") {
  struct Case {
    std::function<void(ZipPart&)> change;
    const char* cause;
  };
  for (const auto& [change, cause] : {
           Case{[](ZipPart& p) { p.method = 8; }, "x.zip: zip member 'a/first': is compressed (method 8)"},
           Case{[](ZipPart& p) { p.flags |= 0x0001; }, "zip member 'a/first': is encrypted"},
           Case{[](ZipPart& p) { p.flags |= 0x0040; }, "zip member 'a/first': is encrypted"},
           Case{[](ZipPart& p) { p.flags |= 0x2000; }, "zip member 'a/first': is encrypted"},
           Case{[](ZipPart& p) { p.flags |= 0x0020; }, "zip member 'a/first': is patch data"},
           Case{[](ZipPart& p) { p.flags |= 0x0002; }, "zip member 'a/first': has unknown flag bits (2058)"},
           Case{[](ZipPart& p) { p.local_name = "a/f1rst"; },
                "zip member 'a/first': has another name in its own header"},
           Case{[](ZipPart& p) { p.local_name = "a/first2"; }, "has another name in its own header"},
           Case{[](ZipPart& p) { p.name = "a/second"; }, "zip member 'a/second': occurs twice"},
           Case{[](ZipPart& p) { p.name = ""; }, "zip directory entry 0 has no proper name"},
           Case{[](ZipPart& p) { p.name = "a/\xff"; }, "zip directory entry 0 has no proper name"},
           Case{[](ZipPart& p) { p.length_bytes = 2; }, "has no data descriptor behind it that agrees"},
           Case{[](ZipPart& p) { p.length_bytes = 100000; },
                "has 100000 bytes at 64, but the zip directory begins at"},
           Case{[](ZipPart& p) {
                  p.length_bytes = ~0ull - 63;
                  p.zip64 = true;
                },
                "but the zip directory begins at"},
           Case{[](ZipPart& p) {
                  p.length_bytes = 4;
                  p.flags = 0;
                },
                "has other sizes or another CRC in its own header"},
       }) {
    CHECK_ERROR(index_of(with(change)), ErrorKind::malformed, cause);
  }
}

TEST_CASE_FIXTURE(ZipFixture, "headers that contradict the zip directory are refused") {
  const std::string zip = make_zip(kParts);
  const std::size_t central = zip.find("PK\x01\x02");
  const std::size_t end64 = zip.find("PK\x06\x06");
  const std::size_t end = zip.size() - 22;
  struct Case {
    std::size_t offset;
    std::string value;
    const char* cause;
  };
  for (const auto& [offset, value, cause] : {
           Case{0, "PK\x03\x05", "zip member 'a/first': has no header at byte 0"},
           Case{6, "\x00"s, "has other flags in its own header"},
           Case{7, "\x00"s, "has other flags in its own header"},
           Case{8, "\x08", "has another method in its own header"},
           Case{14, "\x01", "has other sizes or another CRC in its own header"},
           Case{18, "\x01", "has other sizes or another CRC in its own header"},
           Case{28, "\xff\xff", "begins at"},
           Case{37 + 2, "\xff", "has damaged extra fields in its own header"},
           Case{64 + 3, "QK", "has no data descriptor"},
           Case{64 + 3 + 4, "\x00"s, "has no data descriptor"},
           Case{64 + 3 + 8, "\x04", "has no data descriptor"},
           Case{central, "PK\x01\x03", "zip directory entry 0 is damaged"},
           Case{central + 20, "\x04", "is stored, but has two sizes: 4 and 3"},
           Case{central + 28, "\xff\xff", "zip directory entry 0 is damaged"},
           Case{central + 34, "\x01", "lies on another disk"},
           Case{central + 42, "\x01", "has no header at byte 1"},
           Case{central + 42, "\xff\xff\xff\xff", "lacks a zip64 field"},
           Case{end64, "QK", "zip64 end record is damaged"},
           Case{end64 + 4, "\x2d", "zip64 end record is damaged"},
           Case{end64 + 32, "\x02", "zip64 end record is damaged"},
           Case{end64 + 40, "\x01", "zip64 end record is damaged"},
           Case{end64 + 56 + 8, "\x01", "zip64 end locator does not point"},
           Case{end + 4, "\x01", "one disk of a zip archive of several"},
           Case{end + 8, "\x02", "two counts of members differ"},
           Case{end + 16, "\xff\xff\xff\xfe", "contradicts the end record"},
           Case{end + 20, "\x01", "has no zip directory at its end"},
       }) {
    CAPTURE(offset);
    CHECK_ERROR(index_of(patched(zip, offset, value)), ErrorKind::malformed, cause);
  }
}

TEST_CASE_FIXTURE(ZipFixture, "a directory that lies about how much it holds is refused") {
  const std::string zip = make_zip(kParts, false);
  const std::size_t end = zip.size() - 22;
  CHECK_ERROR(index_of(patched(zip, end + 8, "\x02\x00\x02"s)), ErrorKind::malformed,
              "bytes behind its last entry");
  CHECK_ERROR(index_of(patched(zip, end + 8, "\x04\x00\x04"s)), ErrorKind::malformed,
              "zip directory of 160 bytes cannot hold 4 members");
  CHECK_ERROR(index_of(patched(zip, end + 8, "\xfe\xff\xfe\xff")), ErrorKind::malformed,
              "cannot hold 65534 members");
  CHECK_ERROR(index_of(patched(zip, end + 8, "\xff\xff\xff\xff")), ErrorKind::malformed,
              "zip64 end record is missing");
  CHECK_ERROR(index_of(patched(zip, end + 16, "\x01")), ErrorKind::malformed, "where the end record begins");
}

TEST_CASE_FIXTURE(ZipFixture, "bytes that belong to no member are refused") {
  // A reader that walks the local headers would see the first member, one that reads the directory would not.
  std::string zip = make_zip(kParts, false);
  constexpr std::size_t kEntryBytes = 46 + 7;
  zip.erase(zip.find("PK\x01\x02"), kEntryBytes);
  const std::size_t end = zip.size() - 22;
  zip[end + 8] = zip[end + 10] = 2;
  zip[end + 12] = static_cast<char>(zip[end + 12] - static_cast<char>(kEntryBytes));
  CHECK_ERROR(index_of(zip), ErrorKind::malformed, "zip member 'a/empty': begins at byte");
  CHECK_ERROR(index_of(zip), ErrorKind::malformed, "but the one before it ends at 0");
}

TEST_CASE_FIXTURE(ZipFixture, "bytes that belong to two members are refused") {
  // The directory names a whole member that lies in the payload of another one.
  const std::string inner = make_zip({{.name = "a/inner", .bytes = "text"}}, false);
  const std::size_t inner_directory = inner.find("PK\x01\x02");
  const std::string inner_member = inner.substr(0, inner_directory);
  std::string zip =
      make_zip({{.name = "a/outer", .bytes = inner_member}, {.name = "a/other", .bytes = "text"}}, false);
  CHECK(index_of(zip).size() == 2);
  const std::size_t payload = zip.find(inner_member);
  const std::size_t entry = zip.find("a/other", zip.find("PK\x01\x02")) - 46;
  zip.replace(entry, 46 + 7, inner.substr(inner_directory, 46 + 7));
  zip[entry + 42] = static_cast<char>(payload);
  REQUIRE(payload < 256);
  CHECK_ERROR(index_of(zip), ErrorKind::malformed, "zip member 'a/inner': overlaps the one before it");
}

TEST_CASE_FIXTURE(ZipFixture, "a zip file with something before or behind it is refused") {
  const std::string zip = make_zip(kParts);
  CHECK_ERROR(index_of(zip + "x"), ErrorKind::malformed, "or something follows it");
  CHECK_ERROR(index_of("x" + zip), ErrorKind::malformed, "x.zip: ");
}

TEST_CASE_FIXTURE(ZipFixture, "a zip file cut at any byte is refused") {
  const std::string zip = make_zip(kParts);
  for (std::size_t bytes = 0; bytes < zip.size(); ++bytes) {
    CAPTURE(bytes);
    CHECK_ERROR(index_of(zip.substr(0, bytes)), ErrorKind::malformed,
                "has no zip directory at its end: the file is cut short, or something follows it");
  }
}

}  // namespace
}  // namespace sluice::format
