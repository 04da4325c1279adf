#include "convert/conversion_journal.h"

#include <doctest/doctest.h>

#include <functional>
#include <limits>
#include <string>

#include "base/hasher.h"
#include "convert/build_id.h"
#include "tests/support/temp_dir.h"

using namespace sluice;
using convert::ConversionIdentity;
using convert::ConversionJournal;
using convert::FinishedTensor;
using tests::TempDir;

namespace {

constexpr std::size_t kHeaderBytes = 128;
constexpr std::size_t kRecordBytes = 104;
constexpr std::size_t kTensors = 6;

base::Sha256 digest(std::string_view text) { return base::hash<base::Sha256>(base::as_bytes(text)); }

ConversionIdentity make_identity() {
  return {kTensors, digest("program"), digest("release"), digest("recipe")};
}

std::vector<FinishedTensor> make_tensors(std::size_t count) {
  std::vector<FinishedTensor> tensors;
  for (std::size_t i = 0; i < count; ++i) {
    const std::string name = std::to_string(i);
    tensors.push_back({digest("tensor" + name),
                       digest("source" + name),
                       {0.001 * static_cast<double>(i), 1.0 + static_cast<double>(i)},
                       1000 * i});
  }
  return tensors;
}

/// The bytes of a journal that has these tensors.
std::vector<std::byte> make_journal(const std::vector<FinishedTensor>& tensors) {
  const TempDir folder;
  base::File file = base::File::create(folder / "j");
  ConversionJournal journal(file, make_identity());
  for (const auto& tensor : tensors) journal.append(tensor);
  journal.sync();
  return base::read_file(folder / "j");
}

/// Recomputes the check at the end, so that only the change itself can be refused.
void seal(const std::vector<std::byte>& content, std::size_t at, std::size_t bytes,
          std::vector<std::byte>& out) {
  base::Hasher<base::Sha256> hasher;
  if (at > 0) hasher.update(base::Bytes(content).subspan(kHeaderBytes - 8, 8));
  hasher.update(base::Bytes(out).subspan(at, bytes - 8));
  const auto check = hasher.final();
  std::copy_n(check.bytes.begin(), 8, out.begin() + static_cast<std::ptrdiff_t>(at + bytes - 8));
}

}  // namespace

TEST_CASE("a journal of a conversion gives back what was written, and goes on from there") {
  const TempDir folder;
  base::write_file(folder / "j", make_journal(make_tensors(4)));
  base::File file = base::File::open_update(folder / "j");
  {
    ConversionJournal journal(file, make_identity());
    CHECK(journal.refusal().empty());
    CHECK(journal.finished() == make_tensors(4));
    journal.append(make_tensors(5).back());
  }
  ConversionJournal journal(file, make_identity());
  CHECK(journal.finished() == make_tensors(5));
  journal.keep(2);
  CHECK(ConversionJournal(file, make_identity()).finished() == make_tensors(2));
}

TEST_CASE("a conversion's journal cut at any byte keeps its whole records, and can be written again") {
  const auto content = make_journal(make_tensors(4));
  REQUIRE(content.size() == kHeaderBytes + 4 * kRecordBytes);
  const TempDir folder;
  for (std::size_t length = 0; length <= content.size(); ++length) {
    const std::size_t whole = length < kHeaderBytes ? 0 : (length - kHeaderBytes) / kRecordBytes;
    base::write_file(folder / "j", base::Bytes(content).first(length));
    base::File file = base::File::open_update(folder / "j");
    ConversionJournal journal(file, make_identity());
    REQUIRE(journal.refusal().empty());
    REQUIRE(journal.finished() == make_tensors(whole));
    journal.append(make_tensors(whole + 1).back());
    REQUIRE(ConversionJournal(file, make_identity()).finished() == make_tensors(whole + 1));
  }
}

TEST_CASE("a conversion's journal with any bit changed says no more than before") {
  const auto content = make_journal(make_tensors(3));
  for (std::size_t bit = 0; bit < 8 * content.size(); ++bit) {
    auto changed = content;
    changed[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
    const auto found = convert::parse_conversion_journal(changed, make_identity());
    const std::size_t whole = bit / 8 < kHeaderBytes ? 0 : (bit / 8 - kHeaderBytes) / kRecordBytes;
    REQUIRE(found.finished == make_tensors(whole));
    REQUIRE(found.refusal.empty() == (bit / 8 >= kHeaderBytes));
  }
}

TEST_CASE("journals of other conversions are refused with what differs") {
  struct Case {
    std::string refusal;
    std::function<void(ConversionIdentity&)> change;
  };
  const Case cases[] = {
      {"another build of this program began it", [](auto& identity) { identity.program = digest("newer"); }},
      {"it was made of another release, or of other files",
       [](auto& identity) { identity.release = digest("x"); }},
      {"it was begun with other options", [](auto& identity) { identity.recipe = digest("x"); }},
      {"its journal contradicts itself", [](auto& identity) { ++identity.tensors; }},
  };
  const auto content = make_journal(make_tensors(3));
  for (const Case& one : cases) {
    auto identity = make_identity();
    one.change(identity);
    const auto found = convert::parse_conversion_journal(content, identity);
    CHECK(found.refusal == one.refusal);
    CHECK(found.finished.empty());
    // The refused journal was replaced by a new one.
    const TempDir folder;
    base::write_file(folder / "j", content);
    base::File file = base::File::open_update(folder / "j");
    CHECK(ConversionJournal(file, identity).refusal() == one.refusal);
    CHECK(file.size_bytes() == kHeaderBytes);
    CHECK(ConversionJournal(file, identity).refusal().empty());
  }
}

TEST_CASE("damaged journals of a conversion say what is wrong with them, or end at the record") {
  struct Case {
    std::string what;
    std::size_t at;
    std::size_t part_at;  // header or record, sealed again; 0 bytes: not
    std::size_t part_bytes;
    std::vector<std::byte> bytes;
    std::string refusal;
    std::size_t finished;
  };
  const std::size_t second = kHeaderBytes + kRecordBytes;
  const auto number = [](auto value) {
    std::vector<std::byte> bytes(8);
    base::store_le(bytes, 0, value);
    return bytes;
  };
  const auto text = [](std::string_view t) {
    const auto bytes = base::as_bytes(t);
    return std::vector<std::byte>(bytes.begin(), bytes.end());
  };
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinity = std::numeric_limits<double>::infinity();
  const Case cases[] = {
      {"magic", 0, 0, 0, text("SLUICEJ1"), "its journal is not one that this version writes", 0},
      {"magic, sealed", 0, 0, kHeaderBytes, text("SLUICEC2"),
       "its journal is not one that this version writes", 0},
      {"check", kHeaderBytes - 8, 0, 0, text("checksum"), "its journal is damaged", 0},
      {"zeros", kHeaderBytes - 16, 0, 0, text("notzeros"), "its journal is damaged", 0},
      {"zeros, sealed", kHeaderBytes - 16, 0, kHeaderBytes, text("notzeros"),
       "its journal contradicts itself", 0},
      {"tensors, sealed", 8, 0, kHeaderBytes, number(std::uint64_t{1} << 60),
       "its journal contradicts itself", 0},
      {"index", second, second, kRecordBytes, number(std::uint64_t{2}), "", 1},
      {"large index", second, second, kRecordBytes, number(~std::uint64_t{0}), "", 1},
      {"NaN", second + 16, second, kRecordBytes, number(nan), "", 1},
      {"infinity", second + 24, second, kRecordBytes, number(infinity), "", 1},
      {"below zero", second + 16, second, kRecordBytes, number(-1.0), "", 1},
      {"another error, sealed", second + 16, second, kRecordBytes, number(0.5), "", 3},
      {"another error", second + 16, 0, 0, number(0.5), "", 1},
  };
  const auto content = make_journal(make_tensors(3));
  for (const Case& one : cases) {
    CAPTURE(one.what);
    auto changed = content;
    std::ranges::copy(one.bytes, changed.begin() + static_cast<std::ptrdiff_t>(one.at));
    if (one.part_bytes > 0) seal(content, one.part_at, one.part_bytes, changed);
    const auto found = convert::parse_conversion_journal(changed, make_identity());
    CHECK(found.refusal == one.refusal);
    CHECK(found.finished.size() == one.finished);
  }
}

TEST_CASE("a journal has no more records than the conversion has tensors") {
  const auto content = make_journal(make_tensors(kTensors));
  auto longer = content;
  longer.insert(longer.end(), content.end() - kRecordBytes, content.end());
  CHECK(convert::parse_conversion_journal(longer, make_identity()).finished == make_tensors(kTensors));
}

TEST_CASE("a journal that another user can write is refused, and begun anew") {
  const TempDir folder;
  base::write_file(folder / "j", make_journal(make_tensors(3)));
  std::filesystem::permissions(folder / "j", static_cast<std::filesystem::perms>(0666));
  {
    base::File file = base::File::open_update(folder / "j");
    const ConversionJournal journal(file, make_identity());
    CHECK(journal.refusal() == "its journal can be written by another user");
    CHECK(journal.finished().empty());
  }
  base::File file = base::File::open_update(folder / "j");
  const ConversionJournal again(file, make_identity());
  CHECK(again.refusal().empty());
  CHECK(again.finished().empty());
}

TEST_CASE("the linker gave this program a build id") { CHECK(convert::build_id().size() == 20); }
