#include "format/safetensors.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "format/checkpoint_map.h"
#include "tests/support/check_error.h"
#include "tests/support/pth_writer.h"
#include "tests/support/safetensors_writer.h"
#include "tests/support/temp_dir.h"

namespace sluice::format {
namespace {

using base::ErrorKind;
using tests::frame_safetensors;
using tests::RawTensor;
using namespace std::string_literals;

class Folder {
 public:
  CheckpointIndex open(const std::string& bytes) {
    tests::write_plainly(path(), bytes);
    return open_safetensors(path());
  }
  [[nodiscard]] std::filesystem::path path() const { return folder_ / "x.safetensors"; }
  [[nodiscard]] std::filesystem::path operator/(const char* name) const { return folder_ / name; }
  [[nodiscard]] const std::filesystem::path& root() const { return folder_.path(); }

 private:
  tests::TempDir folder_{tests::fast_directory()};
};

std::vector<RawTensor> small() {
  return {{"b", DType::bf16, {2, 3}, std::string(12, 'b')},
          {"a.weight", DType::f32, {2}, std::string(8, 'a')},
          {"scalar", DType::u8, {}, "s"},
          {"none", DType::i64, {2, 0}, ""}};
}

TEST_CASE("a safetensors file is its tensors by name, with where they lie") {
  Folder folder;
  const std::string bytes = tests::make_safetensors(small());
  const auto index = folder.open(bytes);
  CHECK(index.kind == CheckpointKind::safetensors);
  REQUIRE(index.tensors.size() == 4);
  const std::uint64_t data = bytes.size() - 21;
  const auto* b = index.find("b");
  REQUIRE(b != nullptr);
  CHECK(b->dtype == DType::bf16);
  CHECK(b->shape == Shape{2, 3});
  CHECK(b->strides == std::vector<std::uint64_t>{3, 1});
  CHECK(b->offset_bytes == data);
  CHECK(b->extent_bytes == 12);
  CHECK(index.find("a.weight")->offset_bytes == data + 12);
  CHECK(index.find("scalar")->offset_bytes == data + 20);
  CHECK(index.find("none")->extent_bytes == 0);
  for (const auto& tensor : index.tensors) CHECK(tensor.row_major());
}

TEST_CASE("headers that safetensors accepts are accepted") {
  Folder folder;
  for (const std::string& header : {
           "{}\r \t\n"s,
           " \n{\"__metadata__\":{\"a\":\"b\"}}"s,
           R"({"x":{"dtype":"F32","shape":[2,0],"data_offsets":[0,0]}})"s,
           R"({"x":{"data_offsets":[0,0],"shape":[0,9223372036854775808,2],"dtype":"BF16"}})"s,
           R"({"\u00e4":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}})"s,
       }) {
    CAPTURE(header);
    CHECK(folder.open(frame_safetensors(header)).tensors.size() <= 1);
  }
  CHECK(folder.open(frame_safetensors(R"({"x":{"dtype":"U8","shape":[],"data_offsets":[0,1]}})", "x"))
            .tensors.size() == 1);
}

TEST_CASE("bad safetensors files are refused with their cause") {
  Folder folder;
  const auto one = [](const std::string& dtype, const std::string& shape, const std::string& offsets) {
    return R"({"x":{"dtype":)" + dtype + R"(,"shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}";
  };
  const auto two = [](const std::string& first, const std::string& second) {
    return R"({"x":{"dtype":"U8","shape":[4],"data_offsets":)" + first +
           R"(},"y":{"dtype":"U8","shape":[4],"data_offsets":)" + second + "}}";
  };
  struct Case {
    std::string bytes;
    std::string cause;
  };
  const Case cases[] = {
      {"", "is empty"},
      {"\1\0\0"s, "is no safetensors file: it has 3 bytes, the length of the header alone takes 8"},
      {";\0\0\0\0\xff\xff\xff"s,
       "says that its header has 18446742974197923899 bytes, at most 100000000 are allowed"},
      {"\x01\xe1\xf5\x05\0\0\0\0{}"s, "says that its header has 100000001 bytes"},
      {"\x10\0\0\0\0\0\0\0{}"s, "says that its header has 16 bytes, but there are only 2"},
      {frame_safetensors("\1\2\3\xff"s), "its header is not UTF-8"},
      {frame_safetensors(""), "its header does not begin with '{'"},
      {frame_safetensors("   "), "its header does not begin with '{'"},
      {frame_safetensors("[]"), "its header does not begin with '{'"},
      {frame_safetensors("\xEF\xBB\xBF{}"), "its header does not begin with '{'"},
      {frame_safetensors("{"), "its header is not valid JSON: offset 2: syntax error"},
      {frame_safetensors("{}x"), "its header is not valid JSON"},
      {frame_safetensors("{}\0"s), "its header has a NUL byte"},
      {frame_safetensors(R"({"x":{}})"), "tensor 'x': key 'dtype' is missing"},
      {frame_safetensors(R"({"x":[]})"), "tensor 'x': expected an object, found an array"},
      {frame_safetensors(R"({"x":3})"), "tensor 'x': expected an object, found 3"},
      {frame_safetensors(R"({"":{}})"), "tensor '': is not a proper name"},
      {frame_safetensors("{\"a\\u001b[2J\":{}}"), "is not a proper name"},
      {frame_safetensors(R"({"x":{"dtype":"U8","shape":[0],"data_offsets":[0,0],"more":1}})"),
       "tensor 'x': has the unknown key 'more'"},
      {frame_safetensors(R"({"x":{"dtype":"U8","dtype":"U8"}})"), "its header has the key 'dtype' twice"},
      {frame_safetensors(R"({"x":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"x":{}})"),
       "its header has the key 'x' twice"},
      {frame_safetensors(R"({"__metadata__":{"a":1}})"), "__metadata__: key 'a': expected a string, found 1"},
      {frame_safetensors(R"({"__metadata__":{"a":{}}})"),
       "__metadata__: key 'a': expected a string, found an object"},
      {frame_safetensors(R"({"__metadata__":{"a":"1","a":"2"}})"), "its header has the key 'a' twice"},
      {frame_safetensors(R"({"__metadata__":{},"__metadata__":{}})"),
       "its header has the key '__metadata__' twice"},
      {frame_safetensors(one("8", "[1]", "[0,1]")), "tensor 'x': key 'dtype': expected a string, found 8"},
      {frame_safetensors(one("\"F33\"", "[1]", "[0,1]")), "tensor 'x': has the unknown dtype 'F33'"},
      {frame_safetensors(one("\"F4\"", "[1]", "[0,1]")), "tensor 'x': has dtype F4, which is not supported"},
      {frame_safetensors(one("\"F8_E5M2\"", "[1]", "[0,1]")),
       "tensor 'x': has dtype F8_E5M2, which is not supported"},
      {frame_safetensors(one("\"U8\"", "4", "[0,4]"), "abcd"),
       "tensor 'x': key 'shape': expected an array of whole numbers, found 4"},
      {frame_safetensors(one("\"U8\"", "[-4]", "[0,4]"), "abcd"),
       "tensor 'x': key 'shape': expected an array of whole numbers, found -4"},
      {frame_safetensors(one("\"U8\"", "[4.0]", "[0,4]"), "abcd"),
       "expected an array of whole numbers, found 4.0"},
      {frame_safetensors(one("\"U8\"", "[[4]]", "[0,4]"), "abcd"),
       "expected an array of whole numbers, found an array"},
      {frame_safetensors(one("\"U8\"", "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]", "[0,1]"), "a"),
       "tensor 'x': has more than 16 axes"},
      {frame_safetensors(one("\"U8\"", "[4]", "[0]"), "abcd"), "tensor 'x': has fewer than two data_offsets"},
      {frame_safetensors(one("\"U8\"", "[4]", "[0,4,4]"), "abcd"),
       "tensor 'x': has more than two data_offsets"},
      {frame_safetensors(one("\"U8\"", "[4]", "[-4,0]"), "abcd"),
       "tensor 'x': key 'data_offsets': expected an array of whole numbers, found -4"},
      {frame_safetensors(one("\"U8\"", "[4]", "[4,0]"), "abcd"),
       "tensor 'x': ends at 0 before it begins at 4"},
      {frame_safetensors(one("\"U8\"", "[5]", "[0,4]"), "abcd"),
       "tensor 'x': has 4 bytes, its shape [5] of u8 asks for 5"},
      {frame_safetensors(one("\"F32\"", "[2,18446744073709551614]", "[0,4]"), "abcd"),
       "tensor 'x': shape [2, 18446744073709551614] is too large"},
      {frame_safetensors(one("\"F32\"", "[2,9223372036854775807]", "[0,4]"), "abcd"),
       "tensor 'x': shape [2, 9223372036854775807] is too large"},
      {frame_safetensors(one("\"U8\"", "[4]", "[18446744073709551612,18446744073709551616]"), "abcd"),
       "expected an array of whole numbers, found 18446744073709551616"},
      {frame_safetensors(one("\"U8\"", "[3]", "[18446744073709551612,18446744073709551615]"), "abcd"),
       "tensor 'x': lies beyond what a file can have"},
      {frame_safetensors(two("[0,4]", "[4,8]"), "abcdefg"), "its tensors end at "},
      {frame_safetensors(two("[0,4]", "[4,8]"), "abcdefghi"), ": there is something behind them"},
      {frame_safetensors(two("[0,4]", "[0,4]"), "abcd"),
       "tensor 'y': begins at byte 0 of the data, expected 4: it overlaps another"},
      {frame_safetensors(two("[0,4]", "[2,6]"), "abcdef"),
       "tensor 'y': begins at byte 2 of the data, expected 4: it overlaps another"},
      {frame_safetensors(two("[0,4]", "[5,9]"), "abcdefghi"),
       "tensor 'y': begins at byte 5 of the data, expected 4: there is a gap"},
      {frame_safetensors(two("[1,5]", "[5,9]"), "abcdefghi"),
       "tensor 'x': begins at byte 1 of the data, expected 0: there is a gap"},
      {frame_safetensors("{}", "x"), "there is something behind them"},
      {"<!DOCTYPE html><html>", "is a web page, not a checkpoint"},
      {"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"},
      {"PK\3\4 and so on", "is a zip file, not a safetensors file"},
  };
  for (const Case& c : cases) {
    CAPTURE(c.cause);
    CHECK_ERROR(folder.open(c.bytes), ErrorKind::malformed, c.cause);
  }
  CHECK_ERROR(folder.open("{}"), ErrorKind::malformed, "x.safetensors: ");
}

TEST_CASE("a safetensors file that is cut anywhere is refused") {
  Folder folder;
  const std::string bytes = tests::make_safetensors(small());
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    CAPTURE(length);
    CHECK_ERROR(folder.open(bytes.substr(0, length)), ErrorKind::malformed, "x.safetensors: ");
  }
}

TEST_CASE("a safetensors file with flipped bits is refused or lies inside of itself") {
  Folder folder;
  const std::string bytes = tests::make_safetensors(small());
  for (std::size_t bit = 0; bit < (bytes.size() - 21) * 8; ++bit) {
    std::string bad = bytes;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << bit % 8));
    try {
      for (const auto& tensor : folder.open(bad).tensors)
        REQUIRE(tensor.offset_bytes + tensor.extent_bytes <= bad.size());
    } catch (const base::Error& error) {
      REQUIRE(error.kind() == ErrorKind::malformed);
    }
  }
}

TEST_CASE("a large header of something else is refused where that begins") {
  Folder folder;
  std::string numbers = "{\"x\":[0";
  for (int i = 0; i < 1'000'000; ++i) numbers += ",0";
  CHECK_ERROR(folder.open(frame_safetensors(numbers + "]}")), ErrorKind::malformed,
              "tensor 'x': expected an object, found an array");
  CHECK_ERROR(folder.open(frame_safetensors("{\"x\":" + std::string(1'000'000, '{') + "}")),
              ErrorKind::malformed, "its header is not valid JSON");
}

TEST_CASE("what a damaged range of a safetensors file touches") {
  Folder folder;
  const std::string bytes = tests::make_safetensors(small());
  tests::write_plainly(folder.path(), bytes);
  const std::uint64_t data = bytes.size() - 21;
  const auto map_of = [&](std::uint64_t begin, std::uint64_t end) {
    return map_damaged_checkpoint(folder.path(),
                                  [=](std::uint64_t offset, std::uint64_t length) {
                                    return offset < end && begin < offset + length;
                                  })
        .value();
  };
  const auto map = map_of(data + 3, data + 4);
  CHECK(map.problem.empty());
  REQUIRE(map.tensors.size() == 4);
  REQUIRE(map.parts.size() == 3);
  CHECK(map.parts[0].name == "length of the safetensors header");
  CHECK(map.parts[1].name == "safetensors header");
  CHECK(map.parts[1].length_bytes == data - 8);
  CHECK(map.parts[2].length_bytes == 21);
  for (const auto& tensor : map.tensors) CHECK(touches(tensor, data + 3, data + 4) == (tensor.name == "b"));
  const auto* b = &*std::ranges::find(map.tensors, "b", &CheckpointTensor::name);
  CHECK(touched_rows(*b, data + 6, data + 7) == RowSpan{1, 1});

  const auto damaged = map_of(20, 21);
  CHECK(damaged.tensors.empty());
  CHECK(damaged.problem == "which tensors it touches is not known: the header, which says so, is damaged");
  tests::write_plainly(folder.path(), bytes.substr(0, data + 2));  // cut short: the header still tells
  CHECK(map_of(data + 2, bytes.size()).tensors.size() == 4);
  tests::write_plainly(folder.path(), "\0\0\0"s);
  CHECK(map_of(0, 3).problem.starts_with("which tensors it touches is not known: "));
  tests::write_plainly(folder / "plain.txt", "hello");
  CHECK_FALSE(map_damaged_checkpoint(folder / "plain.txt", [](auto, auto) { return true; }).has_value());
}

TEST_CASE("shards: each tensor in one of them, and the index file tells which") {
  Folder folder;
  const auto write = [&](const char* name, const std::vector<RawTensor>& tensors) {
    tests::write_plainly(folder / name, tests::make_safetensors(tensors));
  };
  const auto tensor = [](const char* name) { return RawTensor{name, DType::u8, {1}, "x"}; };
  const auto map = [&](const std::string& text) {
    tests::write_plainly(folder / "m.safetensors.index.json", text);
  };
  write("m-00001-of-00002.safetensors", {tensor("a")});
  write("m-00002-of-00002.safetensors", {tensor("b")});
  CHECK(open_checkpoint(folder.root()).tensors.size() == 2);
  const auto index = open_checkpoint(folder / "m-00002-of-00002.safetensors");
  REQUIRE(index.files.size() == 2);
  CHECK(index.files[index.find("b")->file_index].filename() == "m-00002-of-00002.safetensors");

  const std::string one = "m-00001-of-00002.safetensors";
  const std::string other = "m-00002-of-00002.safetensors";
  map(tests::make_weight_map({{"a", one}, {"b", other}}));
  CHECK(open_checkpoint(folder.root()).tensors.size() == 2);
  CHECK(open_checkpoint(folder / "m.safetensors.index.json").tensors.size() == 2);
  struct Case {
    std::string text;
    const char* cause;
  };
  for (const auto& [text, cause] : {
           Case{tests::make_weight_map({{"a", other}, {"b", other}}),
                "m.safetensors.index.json: tensor 'a' is said to be in 'm-00002-of-00002.safetensors', but "
                "is in "
                "'m-00001-of-00002.safetensors'"},
           Case{tests::make_weight_map({{"a", one}, {"b", other}, {"c", one}}),
                "tensor 'c' is said to be in 'm-00001-of-00002.safetensors', but is in none of the files"},
           Case{tests::make_weight_map({{"a", one}}),
                "does not name tensor 'b', which is in 'm-00002-of-00002.safetensors'"},
           Case{"{}", "key 'weight_map' is missing"},
           Case{R"({"weight_map":{"a":1}})", "tensor 'a': expected a string, found 1"},
           Case{"[", "is not valid JSON"},
       }) {
    map(text);
    CHECK_ERROR(open_checkpoint(folder.root()), ErrorKind::malformed, cause);
  }
  std::filesystem::remove(folder / "m.safetensors.index.json");

  write("m-00002-of-00002.safetensors", {tensor("a")});
  CHECK_ERROR(
      open_checkpoint(folder.root()), ErrorKind::malformed,
      "m-00001-of-00002.safetensors: tensor 'a' is also in 'm-00002-of-00002.safetensors': shards that hold "
      "slices of the same tensors (tensor-parallel) are not supported");
  std::filesystem::remove(folder / "m-00001-of-00002.safetensors");
  CHECK_ERROR(
      open_checkpoint(folder.root()), ErrorKind::malformed,
      "shard 1 of the checkpoint of 'm-00002-of-00002.safetensors' is missing: there must be 2");
}

TEST_CASE("a file that was cut for an upload is to be joined first") {
  Folder folder;
  for (int part = 0; part < 11; ++part)
    tests::write_plainly(folder / ("consolidated.00.pth-split" + std::to_string(part)).c_str(), "PK\3\4");
  const char* cause = "consolidated.00.pth: is cut into 11 parts: join them in the order of their numbers";
  CHECK_ERROR(open_checkpoint(folder.root()), ErrorKind::malformed, cause);
  CHECK_ERROR(open_checkpoint(folder / "consolidated.00.pth-split3"), ErrorKind::malformed, cause);
}

}  // namespace
}  // namespace sluice::format
