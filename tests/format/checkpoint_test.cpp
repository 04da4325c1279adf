#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"
#include "format/checkpoint_index.h"
#include "format/mistral_params.h"
#include "tests/support/check_error.h"
#include "tests/support/pth_writer.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_release.h"

namespace sluice::format {
namespace {

using base::ErrorKind;
using tests::make_pickle;
using tests::make_zip;
using tests::PthView;
using tests::PthWriter;
using tests::StateDict;
using tests::TempDir;
using tests::ZipPart;
using namespace std::string_literals;

class CheckpointFixture {
 protected:
  CheckpointIndex open(const std::string& bytes) {
    tests::write_plainly(path_, bytes);
    return open_pth(path_);
  }

  /// The elements of a tensor in row-major order, fetched one by one through its strides.
  std::vector<std::uint16_t> elements(const CheckpointTensor& tensor) {
    std::vector<std::byte> extent(tensor.extent_bytes);
    base::File::open_read(path_).read_exact_at(tensor.offset_bytes, extent);
    std::vector<std::uint16_t> found;
    walk(tensor, extent, 0, 0, found);
    return found;
  }

  TempDir folder_;
  std::filesystem::path path_ = folder_ / "x.pth";

 private:
  static void walk(const CheckpointTensor& tensor, base::Bytes extent, std::size_t axis, std::uint64_t at,
                   std::vector<std::uint16_t>& out) {
    if (axis == tensor.shape.size()) {
      out.push_back(base::load_le<std::uint16_t>(extent, at * 2));
      return;
    }
    for (std::uint64_t i = 0; i < tensor.shape[axis]; ++i) {
      walk(tensor, extent, axis + 1, at + i * tensor.strides[axis], out);
    }
  }
};

/// 0, 1, 2, .. as 16-bit numbers.
std::string counting(std::size_t count) {
  std::string bytes;
  for (std::size_t i = 0; i < count; ++i) bytes += {static_cast<char>(i & 0xFF), static_cast<char>(i >> 8)};
  return bytes;
}

PthWriter small() {
  PthWriter writer;
  writer.add("a", DType::bf16, {2, 3}, counting(6));
  writer.add("b", DType::f32, {4}, std::string(16, 'f'));
  return writer;
}

TEST_CASE("the demo release's checkpoint: names, shapes, types and places") {
  const CheckpointIndex index = open_checkpoint(SLUICE_DEMO_RELEASE);
  CHECK(index.kind == CheckpointKind::pth);
  CHECK(index.files.size() == 1);
  REQUIRE(index.tensors.size() == 127);
  CHECK(std::ranges::is_sorted(index.tensors, {}, &CheckpointTensor::name));
  std::uint64_t parameters = 0;
  for (const CheckpointTensor& tensor : index.tensors) {
    CHECK(tensor.dtype == DType::bf16);
    CHECK(tensor.row_major());
    CHECK(tensor.extent_bytes == 2 * *element_count(tensor.shape));
    parameters += *element_count(tensor.shape);
  }
  CHECK(parameters == 14297344);

  // Offsets and first bytes are those that Python's zipfile and pickle modules report.
  struct Place {
    const char* name;
    Shape shape;
    std::uint64_t offset_bytes;
    std::string head;
  };
  const base::File file = base::File::open_read(index.files[0]);
  for (const auto& [name, shape, offset_bytes, head] : {
           Place{"tok_embeddings.weight", {2048, 256}, 15744, "\x31\xbd\xae\xbc\x98\xbc\x3b\xbd"s},
           Place{"norm.weight", {256}, 1064448, "\xc2\x3f\xb8\x3f\xdb\x3f\xb6\x3f"s},
           Place{"output.weight", {2048, 256}, 9987840, "\xf4\x3d\x45\xbe\xe5\xbd\x84\xbe"s},
           Place{"layers.0.attention.wk.weight", {64, 256}, 15169024, "\xe7\xb9\x5c\x3d\xf8\x3a\x4a\x3d"s},
           Place{"layers.3.feed_forward.gate.weight", {8, 256}, 1328640, "\x5b\xbd\x1c\xbd\xc6\x3a\x38\x3d"s},
           Place{"layers.2.feed_forward.experts.5.w2.weight",
                 {256, 512},
                 25409280,
                 "\x45\xbd\x09\xbb\xd1\xbc\x85\x3b"s},
       }) {
    CAPTURE(name);
    const CheckpointTensor* tensor = index.find(name);
    REQUIRE(tensor != nullptr);
    CHECK(tensor->shape == shape);
    CHECK(tensor->offset_bytes == offset_bytes);
    std::array<std::byte, 8> bytes{};
    file.read_exact_at(tensor->offset_bytes, bytes);
    CHECK(base::as_text(bytes) == head);
  }
  CHECK(index.find("layers.4.attention.wq.weight") == nullptr);
  CHECK(index.find("") == nullptr);
  CHECK(index.find("zzz") == nullptr);
}

TEST_CASE("a tiny release that the tests make is read back value by value") {
  TempDir folder;
  const MistralParams params = tests::tiny_params();
  const auto tensors = tests::make_tiny_tensors(params, 7);
  tests::write_tiny_release(folder.path(), params, tensors);
  CHECK(parse_params(base::read_text_file(folder / "params.json"), "p") == params);
  CHECK(base::read_file(folder / "tokenizer.model").size() == 30692);
  const CheckpointIndex index = open_checkpoint(folder.path());
  REQUIRE(index.tensors.size() == tensors.size());
  CHECK(tensors.size() == 3 + 2 * (4 + 2 + 1 + 3 * 4));
  const base::File file = base::File::open_read(index.files[0]);
  for (const auto& tensor : tensors) {
    const CheckpointTensor* found = index.find(tensor.name);
    REQUIRE(found != nullptr);
    CHECK(found->shape == tensor.shape);
    std::vector<std::uint16_t> values(tensor.bf16.size());
    REQUIRE(found->extent_bytes == values.size() * 2);
    file.read_exact_at(found->offset_bytes, std::as_writable_bytes(std::span(values)));
    CHECK(values == tensor.bf16);
  }
  CHECK(tests::make_tiny_tensors(params, 8)[0].bf16 != tensors[0].bf16);
  CHECK(tests::make_tiny_tensors(params, 7)[5].bf16 == tensors[5].bf16);
}

TEST_CASE_FIXTURE(CheckpointFixture, "views into a storage keep their offset and strides") {
  PthWriter writer;
  writer.add("whole", DType::bf16, {4, 6}, counting(24));
  writer.add_view("transposed", {6, 4}, {1, 6}, 0);
  writer.add_view("rows", {2, 6}, {6, 1}, 12);
  writer.add_view("columns", {4, 2}, {6, 1}, 3);
  writer.add_view("scalar", {}, {}, 23);
  writer.add_view("odd_stride_of_one", {1, 6}, {999, 1}, 18);
  writer.add_view("cube", {2, 3, 2}, {12, 2, 1}, 6);
  writer.add_view("none", {0, 6}, {6, 1}, 24);
  const CheckpointIndex index = open(writer.to_bytes());
  const auto at = [&](const char* name) -> const CheckpointTensor& { return *index.find(name); };
  CHECK(elements(at("transposed")) == std::vector<std::uint16_t>{0, 6, 12, 18, 1, 7,  13, 19, 2, 8,  14, 20,
                                                                 3, 9, 15, 21, 4, 10, 16, 22, 5, 11, 17, 23});
  CHECK_FALSE(at("transposed").row_major());
  CHECK(elements(at("rows")) == std::vector<std::uint16_t>{12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23});
  CHECK(at("rows").row_major());
  CHECK(at("rows").offset_bytes == at("whole").offset_bytes + 24);
  CHECK(elements(at("columns")) == std::vector<std::uint16_t>{3, 4, 9, 10, 15, 16, 21, 22});
  CHECK_FALSE(at("columns").row_major());
  CHECK(at("columns").extent_bytes == 2 * 20);
  CHECK(elements(at("scalar")) == std::vector<std::uint16_t>{23});
  CHECK(at("scalar").row_major());
  CHECK(elements(at("odd_stride_of_one")) == std::vector<std::uint16_t>{18, 19, 20, 21, 22, 23});
  CHECK(at("odd_stride_of_one").row_major());
  CHECK(elements(at("cube")) == std::vector<std::uint16_t>{6, 7, 8, 9, 10, 11, 18, 19, 20, 21, 22, 23});
  CHECK(at("none").extent_bytes == 0);
}

TEST_CASE_FIXTURE(CheckpointFixture, "every kind of state dict and both ages of torch's file are read") {
  for (const auto kind :
       {StateDict::ordered, StateDict::plain, StateDict::of_module, StateDict::parameters}) {
    for (const bool byteorder : {false, true}) {
      PthWriter writer = small();
      writer.kind = kind;
      writer.byteorder = byteorder;
      const CheckpointIndex index = open(writer.to_bytes());
      REQUIRE(index.tensors.size() == 2);
      CHECK(elements(*index.find("a")) == std::vector<std::uint16_t>{0, 1, 2, 3, 4, 5});
    }
  }
  auto parts = small().parts();
  parts.push_back({.name = "archive/.data/serialization_id", .bytes = "123"});
  parts.push_back({.name = "archive/.format_version", .bytes = "1"});
  parts.push_back({.name = "archive/.storage_alignment", .bytes = "64"});
  for (ZipPart& part : parts) part.zip64 = true;
  CHECK(open(make_zip(parts)).tensors.size() == 2);
  std::ranges::reverse(parts);
  CHECK(open(make_zip(parts, false)).tensors.size() == 2);
}

TEST_CASE_FIXTURE(CheckpointFixture, "offsets beyond 4 GiB are read from their zip64 fields") {
  // A sparse file: a storage of 5 GiB lies before the one that the test reads.
  constexpr std::uint64_t kHole = 5ull << 30;
  std::vector<PthView> views;
  views.push_back({.name = "big",
                   .dtype = DType::u8,
                   .storage_key = "0",
                   .storage_elements = kHole,
                   .offset_elements = 0,
                   .shape = {kHole},
                   .strides = {1}});
  views.push_back({.name = "end",
                   .dtype = DType::bf16,
                   .storage_key = "1",
                   .storage_elements = 6,
                   .offset_elements = 0,
                   .shape = {2, 3},
                   .strides = {3, 1}});
  tests::write_zip(path_, {{.name = "x/data.pkl", .bytes = make_pickle(views)},
                           {.name = "x/version", .bytes = "3\n"},
                           {.name = "x/data/0", .bytes = "", .hole_bytes = kHole},
                           {.name = "x/data/1", .bytes = counting(6)}});
  const CheckpointIndex index = open_pth(path_);
  CHECK(index.find("big")->extent_bytes == kHole);
  CHECK(index.find("end")->offset_bytes > kHole);
  CHECK(elements(*index.find("end")) == std::vector<std::uint16_t>{0, 1, 2, 3, 4, 5});
}

TEST_CASE_FIXTURE(CheckpointFixture, "a checkpoint cut at any byte is refused") {
  const std::string bytes = small().to_bytes();
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    CAPTURE(length);
    CHECK_ERROR(open(bytes.substr(0, length)), ErrorKind::malformed, "x.pth: ");
  }
}

TEST_CASE_FIXTURE(CheckpointFixture,
                  "no flipped bit in a checkpoint does anything but be refused or not matter") {
  const std::string bytes = small().to_bytes();
  std::size_t refused = 0;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string damaged = bytes;
      damaged[i] = static_cast<char>(damaged[i] ^ (1 << bit));
      try {
        for (const CheckpointTensor& tensor : open(damaged).tensors) {
          REQUIRE(tensor.offset_bytes + tensor.extent_bytes <= bytes.size());
        }
      } catch (const base::Error& error) {
        REQUIRE(error.kind() == ErrorKind::malformed);
        ++refused;
      }
    }
  }
  // All other bytes are alignment padding, times, versions and the payload itself.
  CHECK(refused > bytes.size() * 8 / 2);
}

TEST_CASE_FIXTURE(CheckpointFixture, "zip members that do not belong into a state dict are refused by name") {
  struct Case {
    std::function<void(std::vector<ZipPart>&)> change;
    const char* cause;
  };
  const auto add = [](const char* name) {
    return [name](std::vector<ZipPart>& parts) { parts.push_back({.name = name, .bytes = "x"}); };
  };
  const auto set = [](const char* name, const char* bytes) {
    return [name, bytes](std::vector<ZipPart>& parts) {
      std::erase_if(parts, [&](const ZipPart& part) { return part.name == name; });
      if (bytes != nullptr) parts.push_back({.name = name, .bytes = bytes});
    };
  };
  for (const auto& [change, cause] : {
           Case{[](auto& parts) { parts.clear(); }, "is an empty zip archive"},
           Case{add("archive/constants.pkl"), "x.pth: is a TorchScript program, not a state dict"},
           Case{add("archive/code/__torch__.py"),
                "zip member 'archive/code/__torch__.py' does not occur in a plain torch file"},
           Case{add("other/data.pkl"), "zip member 'other/data.pkl' is outside the folder 'archive/'"},
           Case{add("archive/hidden.pkl"), "zip member 'archive/hidden.pkl' does not occur"},
           Case{add("../evil"), "zip member '../evil' is outside the folder"},
           Case{set("archive/data.pkl", nullptr), "has no member 'data.pkl': not a torch file"},
           Case{set("archive/version", nullptr), "x.pth: has no member 'version'"},
           Case{set("archive/version", "99\n"), "is of torch's file version '99', expected 1 to 10"},
           Case{set("archive/version", ""), "is of torch's file version ''"},
           Case{set("archive/byteorder", "big"), "has the byte order 'big', expected 'little'"},
           Case{set("archive/data/1", nullptr), "tensor 'b': its storage 'data/1' is missing"},
           Case{set("archive/data/1", "fffffff"),
                "tensor 'b': its storage 'data/1' has 7 bytes, expected 4 x f32"},
           Case{set("archive/data.pkl", "\x80\x02"), "x.pth: data.pkl: offset 2: the pickle ends"},
           Case{set("archive/data.pkl",
                    "\x80\x02"
                    "cos\nsystem\n"),
                "x.pth: data.pkl: offset 2: global 'os system' does not"},
           Case{[](auto& parts) { parts[0].crc32 = 1; },
                "zip member 'archive/data.pkl': is damaged: its CRC-32"},
           Case{[](auto& parts) { parts[0].name = "data.pkl"; }, "zip member 'data.pkl' is in no folder"},
           Case{[](auto& parts) { parts[0].bytes.resize((16u << 20) + 1); },
                "more than the 16777216 that are read"},
           Case{[](auto& parts) { parts[1].method = 8; },
                "x.pth: zip member 'archive/data/0': is compressed (method 8)"},
           Case{[](auto& parts) { parts[1].flags |= 1; }, "x.pth: zip member 'archive/data/0': is encrypted"},
           Case{[](auto& parts) { parts[1].local_name = "archive/data/9"; },
                "has another name in its own header"},
       }) {
    auto parts = small().parts();
    change(parts);
    std::string bytes = make_zip(parts);
    if (parts.empty()) bytes = "PK\3\4" + bytes;
    CHECK_ERROR(open(bytes), ErrorKind::malformed, parts.empty() ? "x.pth: " : cause);
  }
}

TEST_CASE_FIXTURE(CheckpointFixture,
                  "tensors that are no proper views of their storage are refused by name") {
  constexpr std::uint64_t kHuge = 1ull << 62;
  struct Case {
    Shape shape;
    std::vector<std::uint64_t> strides;
    std::uint64_t offset_elements;
    const char* cause;
  };
  for (const auto& [shape, strides, offset_elements, cause] : {
           Case{{7},
                {1},
                0,
                "tensor 't': shape [7] with strides [1] at element 0 overruns its storage of 6 elements"},
           Case{{2, 3}, {3, 1}, 1, "at element 1 overruns its storage of 6 elements"},
           Case{{2, 2}, {5, 1}, 0, "overruns its storage"},
           Case{{1}, {1}, 6, "overruns its storage"},
           Case{{}, {}, 6, "overruns its storage"},
           Case{{0}, {1}, 7, "overruns its storage"},
           Case{{2, 3},
                {0, 1},
                0,
                "tensor 't': shape [2, 3] with strides [0, 1] is too large or overlaps itself"},
           Case{{2, 3}, {1, 1}, 0, "overlaps itself"},
           Case{{2, 3}, {2, 1}, 0, "overlaps itself"},
           Case{{kHuge, 4}, {4, 1}, 0, "is too large"},
           Case{{2, 2}, {kHuge, kHuge / 2}, 0, "overruns its storage"},
           Case{{5, 2}, {kHuge, 1}, 0, "is too large"},
           Case{{2}, {1}, (1ull << 63) - 1, "overruns its storage"},
       }) {
    PthWriter writer;
    writer.add("base", DType::bf16, {6}, counting(6));
    writer.add_view("t", shape, strides, offset_elements);
    CHECK_ERROR(open(writer.to_bytes()), ErrorKind::malformed, cause);
  }
  for (const std::string& name : {""s, "two\nlines"s, std::string(600, 'n')}) {
    PthWriter writer;
    writer.add(name, DType::bf16, {6}, counting(6));
    CHECK_ERROR(open(writer.to_bytes()), ErrorKind::malformed, "is not a proper name");
  }
}

TEST_CASE_FIXTURE(CheckpointFixture, "a storage that two types share must fit both") {
  auto views = small().views();
  views[1].storage_key = "0";  // 4 x f32 over the 12 bytes of 'a'
  auto parts = small().parts();
  parts[0].bytes = make_pickle(views);
  CHECK_ERROR(open(make_zip(parts)), ErrorKind::malformed,
              "tensor 'b': its storage 'data/0' has 12 bytes, expected 4 x f32");
  views[1].storage_elements = 3;
  views[1].shape = {3};
  parts[0].bytes = make_pickle(views);
  CHECK(open(make_zip(parts)).find("b")->extent_bytes == 12);
}

TEST_CASE_FIXTURE(CheckpointFixture, "files that are taken for a checkpoint are told apart") {
  std::string tar(512, '\0');
  tar.replace(257, 5, "ustar");
  struct Case {
    std::string bytes;
    const char* cause;
  };
  for (const auto& [bytes, cause] : {
           Case{"", "x.pth: is empty"},
           Case{"\x80\x02\x8a\x0al\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.",
                "from before version 1.6"},
           Case{"\x80\x04\x95", "is a bare pickle"},
           Case{tar, "is a tar archive"},
           Case{"7z\xbc\xaf\x27\x1c\0\4"s, "is a 7z archive"},
           Case{"\x1f\x8b\x08", "is a gzip file"},
           Case{"<!DOCTYPE html><html>", "is a web page, not a checkpoint"},
           Case{"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"},
           Case{"GGUF\3\0\0\0"s, "is a GGUF file"},
           Case{"\x40\0\0\0\0\0\0\0{\"__metadata__\""s, "looks like a safetensors file"},
           Case{"PK\5\6" + std::string(18, '\0'), "is an empty zip archive"},
           Case{"hello", "x.pth: is not a torch zip file: it does not begin with 'PK\\x03\\x04'"},
           Case{"PK", "is not a torch zip file"},
           Case{"PK\3\4", "has no zip directory at its end: the file is cut short"},
       }) {
    CHECK_ERROR(open(bytes), ErrorKind::malformed, cause);
  }
  CHECK_ERROR(open_pth(folder_ / "none.pth"), ErrorKind::io, "none.pth");
}

TEST_CASE("the checkpoint of a folder is found by its content") {
  TempDir folder;
  CHECK_ERROR(open_checkpoint(folder.path()), ErrorKind::malformed,
              "holds no checkpoint (a torch zip or safetensors file)");
  tests::write_plainly(folder / "params.json", "{}");
  std::filesystem::create_directory(folder / "sub.pth");
  std::filesystem::create_symlink("nowhere", folder / "broken.pth");
  CHECK_ERROR(open_checkpoint(folder.path()), ErrorKind::malformed, "holds no checkpoint");
  tests::write_plainly(folder / "model.pt", "<html>");
  CHECK_ERROR(open_checkpoint(folder.path()), ErrorKind::malformed, "model.pt: is a web page");
  small().write(folder / "weights.bin");
  CHECK(open_checkpoint(folder.path()).files[0] == folder / "weights.bin");
  CHECK(open_checkpoint(folder / "weights.bin").tensors.size() == 2);
  small().write(folder / "more.pth");
  CHECK_ERROR(open_checkpoint(folder.path()), ErrorKind::malformed,
              "holds more than one checkpoint ('more.pth', 'weights.bin'), expected one");
}

}  // namespace
}  // namespace sluice::format
