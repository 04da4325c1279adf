// Random bits, flipped one at a time in every kind of file: each is found, and named where it lies. What lies
// where is computed here from the bytes of the files, without the code that names damage.

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/file.h"
#include "format/json.h"
#include "tests/support/make_container.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_release.h"
#include "tests/verify/release_maker.h"
#include "verify/verify.h"

using namespace sluice;
using namespace sluice::tests;
namespace fs = std::filesystem;

namespace {

constexpr const char* kWeights = "consolidated.00.pth";
constexpr std::uint64_t kBlockBytes = 16384;

// Small files: allocating large buffers would take longer than reading.
constexpr verify::Options kOptions{.thread_count = 2, .memory_bytes = 1u << 20};

/// A stretch of a file and what stands there: a tensor when it has a point in its name.
struct Stretch {
  std::uint64_t begin;
  std::uint64_t end;
  std::string name;
  std::uint64_t row_bytes = 0;  ///< of a matrix
};

const Stretch& stretch_at(const std::vector<Stretch>& stretches, std::uint64_t at) {
  const auto found = std::ranges::find_if(
      stretches, [&](const Stretch& stretch) { return at >= stretch.begin && at < stretch.end; });
  REQUIRE(found != stretches.end());
  return *found;
}

bool is_tensor(const Stretch& stretch) { return stretch.name.ends_with(".weight"); }

/// Names of tensors by the keys of their storages: in data.pkl, the key follows the name, both as BINUNICODE,
/// and nothing else there is a number in letters or ends so.
std::map<std::string, std::string> tensors_by_key(std::string_view pickle) {
  std::map<std::string, std::string> tensors;
  std::string name;
  for (std::size_t at = 0; at + 5 < pickle.size(); ++at) {
    const auto length = base::load_le<std::uint32_t>(base::as_bytes(pickle), at + 1);
    if (pickle[at] != 'X' || length == 0 || length > 100 || at + 5 + length > pickle.size()) continue;
    const std::string text(pickle.substr(at + 5, length));
    if (text.ends_with(".weight")) name = text;
    if (std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; })) tensors[text] = name;
  }
  return tensors;
}

/// A torch file by its central directory (PKWARE APPNOTE 4.3.12; no zip64 in so small a file).
std::vector<Stretch> map_pth(const std::vector<std::byte>& file, const format::MistralParams& params) {
  const base::Bytes bytes = file;
  const std::string_view text = base::as_text(bytes);
  const auto number = [&](std::size_t at) { return std::size_t{base::load_le<std::uint32_t>(bytes, at)}; };
  const auto small = [&](std::size_t at) { return std::size_t{base::load_le<std::uint16_t>(bytes, at)}; };
  const std::size_t directory = number(text.rfind("PK\x05\x06") + 16);
  std::vector<Stretch> stretches;
  std::map<std::string, std::string> tensors;
  for (std::size_t at = directory; text.substr(at, 4) == "PK\x01\x02";) {
    const std::size_t header = number(at + 42);
    const std::size_t begin = header + 30 + small(header + 26) + small(header + 28);
    const std::string path(text.substr(at + 46, small(at + 28)));
    const std::string name = path.substr(path.find('/') + 1);
    stretches.push_back({begin, begin + number(at + 24), name});
    if (name == "data.pkl") tensors = tensors_by_key(text.substr(begin, number(at + 24)));
    at += 46 + small(at + 28) + small(at + 30) + small(at + 32);
  }
  for (Stretch& stretch : stretches) {
    if (!stretch.name.starts_with("data/")) continue;
    stretch.name = tensors.at(stretch.name.substr(5));
    const bool vector = stretch.name.find("norm") != std::string::npos;
    if (!vector)
      stretch.row_bytes = 2 * (stretch.name.ends_with("w2.weight") ? params.hidden_dim : params.dim);
  }
  stretches.push_back({directory, file.size(), "zip directory"});
  std::ranges::sort(stretches, {}, &Stretch::begin);
  std::vector<Stretch> gaps;
  for (std::uint64_t end = 0; const Stretch& stretch : stretches) {
    if (stretch.begin > end) gaps.push_back({end, stretch.begin, "between"});
    end = stretch.end;
  }
  std::ranges::move(gaps, std::back_inserter(stretches));
  return stretches;
}

/// A container by its footer and directory (docs/container.md).
std::vector<Stretch> map_container(const std::vector<std::byte>& file) {
  const base::Bytes bytes = file;
  const std::size_t footer = file.size() - 128;
  const std::size_t directory = base::load_le<std::uint64_t>(bytes, footer);
  const auto json =
      format::parse_json(base::as_text(bytes.subspan(directory, footer - directory)), "directory");
  std::vector<Stretch> stretches{
      {0, 4096, "header"}, {directory, footer, "directory"}, {footer, file.size(), "footer"}};
  for (const char* list : {"tensors", "sections"}) {
    for (const auto& item : json.at(list, "directory").as_array("list")) {
      const auto begin = item.at("offset", "item").as_uint("offset");
      const auto& name = item.at("name", "item").as_string("name");
      stretches.push_back({begin, begin + item.at("bytes", "item").as_uint("bytes"),
                           list[0] == 't' ? name : "section " + name});
    }
  }
  std::ranges::sort(stretches, {}, &Stretch::begin);
  std::vector<Stretch> gaps;
  for (std::uint64_t end = 0; const Stretch& stretch : stretches) {
    if (stretch.begin > end) gaps.push_back({end, stretch.begin, "padding"});
    end = stretch.end;
  }
  std::ranges::move(gaps, std::back_inserter(stretches));
  return stretches;
}

/// A bit that is wrong as long as this lives.
class Flip {
 public:
  Flip(const fs::path& path, std::uint64_t at_byte, unsigned bit)
      : file_(base::File::open_update(path)), at_byte_(at_byte), mask_(std::byte{1} << bit) {
    turn();
  }
  ~Flip() { turn(); }
  Flip(const Flip&) = delete;
  Flip& operator=(const Flip&) = delete;

 private:
  void turn() {
    std::byte b{};
    file_.read_exact_at(at_byte_, {&b, 1});
    b ^= mask_;
    file_.write_at(at_byte_, {&b, 1});
  }

  base::File file_;
  std::uint64_t at_byte_;
  std::byte mask_;
};

/// The one range of the one file that is not ok.
verify::DamagedRange only_damage(const verify::Report& report, const std::string& path, std::uint64_t at) {
  CHECK_FALSE(report.ok);
  verify::DamagedRange found;
  for (const verify::FileReport& file : report.files) {
    CHECK((file.state == verify::FileState::ok) == (file.path != path));
    if (file.path != path) continue;
    CHECK(file.state == verify::FileState::damaged);
    REQUIRE(file.damaged.size() == 1);
    found = file.damaged[0];
  }
  CHECK(at >= found.range.offset_bytes);
  CHECK(at < found.range.end_bytes());
  return found;
}

/// A release and a container made from it.
class Specimen {
 public:
  Specimen(const format::MistralParams& params, convert::Quant quant, std::uint64_t seed)
      : params_(params), random_(seed) {
    write_tiny_release(folder_.path(), params, seed);
    prepare(quant);
  }
  Specimen(const fs::path& release, convert::Quant quant, std::uint64_t seed) : random_(seed) {
    for (const auto& entry : fs::directory_iterator(release))
      fs::copy_file(entry.path(), folder_ / entry.path().filename());
    params_ = format::parse_params(base::read_text_file(folder_ / "params.json"), "params.json");
    prepare(quant);
  }

  /// One flip in a file and stretch of a random kind.
  void flip_one() {
    static constexpr std::array kKinds = {"weights", "weights", "pth",    "pth",       "params", "tokenizer",
                                          "payload", "padding", "header", "directory", "footer", "payload"};
    const std::string kind = kKinds[random_() % kKinds.size()];
    CAPTURE(kind);
    ++counts_[kind];
    if (kind == "params" || kind == "tokenizer") {
      flip_small(kind == "params" ? "params.json" : "tokenizer.model");
    } else if (kind == "weights" || kind == "pth") {
      flip_checkpoint(kind == "weights");
    } else {
      flip_container(kind);
    }
  }

  void check_whole() {
    CHECK(verify_folder().ok);
    CHECK(verify_file().ok);
  }
  [[nodiscard]] const std::map<std::string, int>& counts() const { return counts_; }

 private:
  void prepare(convert::Quant quant) {
    make_container(folder_.path(), container_, quant);
    MadeRelease release;
    release.piece_bytes = 65536;
    for (const auto& entry : fs::directory_iterator(folder_.path()))
      release.files.push_back({entry.path().filename().string(), base::read_file(entry.path()), false});
    expectations_.layout = make_layout(release, Hashes::v2_leaves);
    checkpoint_map_ = map_pth(release.file(kWeights).content, params_);
    container_map_ = map_container(base::read_file(container_));
  }

  [[nodiscard]] verify::Report verify_folder() const {
    base::NoProgress progress;
    return verify::verify_release(folder_.path(), expectations_, kOptions, progress, {});
  }
  [[nodiscard]] verify::Report verify_file() const {
    base::NoProgress progress;
    return verify::verify_container(container_, kOptions, progress, {});
  }

  /// A byte of a stretch that `wanted` lets through.
  template <typename Wanted>
  std::uint64_t pick(const std::vector<Stretch>& stretches, Wanted wanted) {
    std::vector<const Stretch*> chosen;
    for (const Stretch& stretch : stretches)
      if (wanted(stretch)) chosen.push_back(&stretch);
    REQUIRE(!chosen.empty());
    const Stretch& stretch = *chosen[random_() % chosen.size()];
    return stretch.begin + random_() % (stretch.end - stretch.begin);
  }

  void flip_small(const std::string& name) {
    const fs::path path = folder_ / name;
    const std::uint64_t at = random_() % fs::file_size(path);
    const Flip flip(path, at, random_() % 8);
    const auto found = only_damage(verify_folder(), name, at);
    CHECK(found.tensors.empty());
  }

  void flip_checkpoint(bool weights) {
    const std::uint64_t at =
        pick(checkpoint_map_, [&](const Stretch& stretch) { return is_tensor(stretch) == weights; });
    CAPTURE(at);
    const Stretch& expected = stretch_at(checkpoint_map_, at);
    CAPTURE(expected.name);
    const Flip flip(folder_ / kWeights, at, random_() % 8);
    const auto report = verify_folder();
    const auto found = only_damage(report, kWeights, at);
    CHECK(found.range.offset_bytes == at / kBlockBytes * kBlockBytes);
    CHECK(found.range.length_bytes <= kBlockBytes);
    const auto has_part = [&](const std::string& part) {
      return std::ranges::find(found.parts, part) != found.parts.end();
    };
    if (expected.name == "zip directory") {
      const auto file = std::ranges::find(report.files, kWeights, &verify::FileReport::path);
      CHECK((has_part("zip directory") || file->problem.find("is not known: ") != std::string::npos));
      return;  // the other contents of the block are then unknown
    }
    if (expected.name == "data.pkl") {
      CHECK(has_part("pickle data.pkl"));
      return;
    }
    check_names(found);
    if (!is_tensor(expected)) CHECK_FALSE(found.parts.empty());
  }

  /// All tensors of the block, with their rows, and no others.
  void check_names(const verify::DamagedRange& found) {
    const std::uint64_t end = found.range.end_bytes();
    std::map<std::string, std::optional<format::RowSpan>> expected;
    for (const Stretch& stretch : checkpoint_map_) {
      const std::uint64_t first = std::max(stretch.begin, found.range.offset_bytes);
      const std::uint64_t last = std::min(stretch.end, end);
      if (!is_tensor(stretch) || first >= last) continue;
      auto& rows = expected[stretch.name];
      if (stretch.row_bytes > 0)
        rows = {(first - stretch.begin) / stretch.row_bytes, (last - 1 - stretch.begin) / stretch.row_bytes};
    }
    std::map<std::string, std::optional<format::RowSpan>> names;
    for (const verify::TouchedTensor& tensor : found.tensors) names[tensor.name] = tensor.rows;
    CHECK(names == expected);
  }

  void flip_container(const std::string& kind) {
    const std::uint64_t at = pick(container_map_, [&](const Stretch& stretch) {
      return kind == "payload" ? is_tensor(stretch) || stretch.name.starts_with("section")
                               : stretch.name == kind;
    });
    CAPTURE(at);
    const Stretch& expected = stretch_at(container_map_, at);
    const Flip flip(container_, at, random_() % 8);
    const auto found = only_damage(verify_file(), container_.filename().string(), at);
    CHECK(found.range.offset_bytes >= expected.begin);
    CHECK(found.range.end_bytes() <= expected.end);
    if (is_tensor(expected)) {
      REQUIRE(found.tensors.size() == 1);
      CHECK(found.tensors[0].name == expected.name);
      CHECK(found.parts.empty());
    } else {
      CHECK(found.tensors.empty());
      CHECK(found.parts == std::vector{expected.name});
    }
  }

  TempDir folder_{fast_directory()};
  TempDir made_{fast_directory()};
  fs::path container_ = made_ / "m.sluice";
  format::MistralParams params_;
  verify::Expectations expectations_;
  std::vector<Stretch> checkpoint_map_;
  std::vector<Stretch> container_map_;
  std::mt19937_64 random_;
  std::map<std::string, int> counts_;
};

}  // namespace

TEST_CASE("each of 1,000 random flipped bits is found, and named where it lies") {
  Specimen specimen(tiny_params(), convert::Quant::q4, 11);
  for (int i = 0; i < 1000; ++i) specimen.flip_one();
  for (const auto& [kind, count] : specimen.counts()) CHECK_MESSAGE(count > 50, kind);
  specimen.check_whole();
}

TEST_CASE("each of the bits is found in a trained model too") {
  Specimen specimen(SLUICE_DEMO_RELEASE, convert::Quant::q8, 12);
  for (int i = 0; i < 100; ++i) specimen.flip_one();
  specimen.check_whole();
}
