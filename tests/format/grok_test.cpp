// Grok-1's release: pickles of arrays, read as data, and the model that follows from them.

#include <doctest/doctest.h>

#include <filesystem>
#include <map>
#include <string>
#include <variant>
#include <vector>

#include "base/bytes.h"
#include "base/file.h"
#include "format/grok/grok_release.h"
#include "format/grok/pickled_arrays.h"
#include "format/manifest.h"
#include "format/model_tensors.h"
#include "format/tensor_source.h"
#include "tests/support/check_error.h"
#include "tests/support/pickled_arrays.h"
#include "tests/support/pth_writer.h"
#include "tests/support/temp_dir.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;
using base::ErrorKind;
using format::DType;
using tests::ArrayToPickle;

void write(const fs::path& path, std::string_view bytes) { tests::write_plainly(path, bytes); }

std::vector<format::PickledArray> read(const fs::path& path) {
  return format::read_pickled_arrays(base::File::open_read(path));
}

/// Writes the pickle as a file with holes for its elements.
void write_sparse(const fs::path& path, const tests::PickledPieces& pickle) {
  auto file = base::File::create(path);
  std::uint64_t at = 0;
  for (std::size_t i = 0; i < pickle.pieces.size(); ++i) {
    file.write_at(at, base::as_bytes(pickle.pieces[i]));
    at += pickle.pieces[i].size() + (i < pickle.element_bytes.size() ? pickle.element_bytes[i] : 0);
  }
}

/// The arrays of all tensors of a model in the order of the release.
std::vector<std::vector<ArrayToPickle>> release(std::uint64_t vocabulary, std::uint64_t width,
                                                std::uint64_t heads, std::uint64_t key_heads,
                                                std::uint64_t experts, std::uint64_t hidden,
                                                std::uint64_t groups, std::uint64_t layers) {
  const auto plain = [](format::Shape shape) {
    return std::vector<ArrayToPickle>{{DType::f32, std::move(shape)}};
  };
  const auto quantized = [](format::Shape weight, format::Shape scales) {
    return std::vector<ArrayToPickle>{{DType::i8, std::move(weight)}, {DType::bf16, std::move(scales)}};
  };
  std::vector<std::vector<ArrayToPickle>> all{plain({vocabulary, width}), plain({width})};
  for (std::uint64_t layer = 0; layer < layers; ++layer) {
    all.push_back(quantized({experts, width, hidden}, {experts, 1, hidden}));
    all.push_back(quantized({experts, hidden, width}, {experts, groups, width}));
    all.push_back(quantized({experts, width, hidden}, {experts, 1, hidden}));
    all.push_back(quantized({width, key_heads * 128}, {1, key_heads * 128}));
    all.push_back(quantized({heads * 128, width}, {groups, width}));
    all.push_back(quantized({width, heads * 128}, {1, heads * 128}));
    all.push_back(quantized({width, key_heads * 128}, {1, key_heads * 128}));
    for (int norm = 0; norm < 4; ++norm) all.push_back(plain({width}));
    all.push_back(plain({width, experts}));
  }
  return all;
}

fs::path file_of(const fs::path& folder, std::size_t number) {
  const std::string digits = std::to_string(number);
  return folder / ("tensor" + std::string(5 - digits.size(), '0') + digits + "_000");
}

TEST_CASE("pickled arrays give type, shape and place of their elements") {
  const tests::TempDir folder;
  const ArrayToPickle plain{DType::f32, {2, 3}, std::string(24, 'x')};
  write(folder / "plain", tests::pickled({plain}));
  const auto one = read(folder / "plain");
  REQUIRE(one.size() == 1);
  CHECK(one[0].name.empty());
  CHECK(one[0].dtype == DType::f32);
  CHECK(one[0].shape == format::Shape{2, 3});
  CHECK(one[0].strides == std::vector<std::uint64_t>{3, 1});
  CHECK(base::read_text_file(folder / "plain", 4096).substr(one[0].offset_bytes, 24) == plain.elements);

  const std::vector<ArrayToPickle> weight{{DType::i8, {2, 300, 200}, std::string(120'000, 'w')},
                                          {DType::bf16, {2, 3, 200}, std::string(2400, 's')}};
  write(folder / "weight", tests::pickled(weight));
  const auto two = read(folder / "weight");
  REQUIRE(two.size() == 2);
  const std::string file = base::read_text_file(folder / "weight", 1 << 20);
  CHECK(two[0].name == "weight");
  CHECK(two[0].shape == weight[0].shape);
  CHECK(file.substr(two[0].offset_bytes, 120'000) == weight[0].elements);
  CHECK(two[1].name == "scales");
  CHECK(two[1].dtype == DType::bf16);
  CHECK(file.substr(two[1].offset_bytes, 2400) == weight[1].elements);
}

TEST_CASE("only pickles that begin with an array are taken for tensors") {
  CHECK(format::is_pickled_array(tests::pickled({{DType::f32, {1}, std::string(4, 'x')}})));
  CHECK(format::is_pickled_array(tests::pickled({{DType::i8, {1, 1}, "w"}, {DType::bf16, {1, 1}, "sc"}})));
  CHECK_FALSE(format::is_pickled_array(std::string("\x80\x04\x95\0\0\0\0\0\0\0\0\x8c\x05posix", 18)));
  CHECK_FALSE(format::is_pickled_array("\x80\x04\x95"));
}

TEST_CASE("a pickle that is cut anywhere is refused") {
  const tests::TempDir folder(tests::fast_directory());
  const std::string whole = tests::pickled(
      {{DType::i8, {2, 8}, std::string(16, 'w')}, {DType::bf16, {1, 8}, std::string(16, 's')}});
  for (std::size_t size = 0; size < whole.size(); ++size) {
    write(folder / "cut", whole.substr(0, size));
    CHECK_ERROR(read(folder / "cut"), ErrorKind::malformed, "cut: offset ");
    fs::remove(folder / "cut");
  }
}

TEST_CASE("every other pickle is refused by what it does") {
  const tests::TempDir folder(tests::fast_directory());
  const std::string good = tests::pickled({{DType::f32, {4}, std::string(16, 'e')}});
  const auto replaced = [&](const std::string& from, const std::string& to) {
    std::string bytes = good;
    const std::size_t at = bytes.find(from);
    REQUIRE(at != std::string::npos);
    return bytes.replace(at, from.size(), to);
  };
  const struct {
    std::string bytes;
    const char* cause;
  } cases[] = {
      {std::string("\x80\x02") + good.substr(2), "pickle protocol 2, expected 4"},
      {good.substr(2), "a pickle begins with its protocol, and only there"},
      {replaced("_reconstruct", "_reconstrucT"),
       "the global numpy.core.multiarray _reconstrucT is not allowed"},
      {replaced("\x8c\x05numpy\x94\x8c\x07ndarray", "\x8c\x05posix\x94\x8c\x07systemX"),
       "the global posix systemX is not allowed"},
      {replaced("f4", "f8"), "an element type 'f8', expected f4, i1 or bfloat16"},
      {replaced("<", ">"), "elements in another byte order, expected little-endian"},
      {replaced("K\x04\x85", "K\x05\x85"), "an array of shape [5] and type f32 in 16 bytes"},
      {replaced("K\x04\x85", std::string("K\0\x85", 3)), "an extent that is no positive number"},
      {replaced("C\x10", "C\xFF"), "an array of 255 bytes in a file of "},
      {replaced("NNN", "NcN"), "opcode 99 is not allowed"},
      {good + "x", "the pickle ends, and 1 bytes follow"},
      {std::string("\x80\x04h\x07."), "the memo has no entry 7"},
      {std::string("\x80\x04R."), "the stack is empty"},
      {std::string("\x80\x04K\x01."), "the pickle holds no array"},
      {std::string("\x80\x04K\x01K\x02."), "the pickle leaves more than one value"},
      {std::string("\x80\x04u."), "no mark on the stack"},
      {"\x80\x04" + std::string(5000, '('), "more than 1024 opcodes"},
      {std::string("\x80\x04X\xFF\xFF\xFF\x7F"), "a name of 2147483647 bytes"},
  };
  for (const auto& [bytes, cause] : cases) {
    CAPTURE(cause);
    write(folder / "bad", bytes);
    CHECK_ERROR(read(folder / "bad"), ErrorKind::malformed, cause);
    fs::remove(folder / "bad");
  }
}

TEST_CASE("the files of the release have the published sizes, and describe Grok-1") {
  // Sizes and counts: the torrent 5f96d43576e3d386c9ba65b883210a393b68210e.
  const std::map<std::uint64_t, int> published{{3'221'225'637, 1}, {1'611'137'347, 128}, {1'611'399'491, 64},
                                               {37'847'359, 64},   {37'761'334, 64},     {6'293'814, 128},
                                               {196'770, 64},      {24'727, 257}};
  const tests::TempDir folder;
  fs::create_directory(folder / "ckpt-0");
  std::map<std::uint64_t, int> sizes;
  std::uint64_t total_bytes = 0;
  const auto tensors = release(131072, 6144, 48, 8, 8, 32768, 8, 64);
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const auto pickle = tests::pickle_arrays(tensors[i]);
    write_sparse(file_of(folder / "ckpt-0", i), pickle);
    ++sizes[pickle.size_bytes()];
    total_bytes += pickle.size_bytes();
  }
  CHECK(sizes == published);
  CHECK(total_bytes == 318'239'886'140);
  const auto manifest = format::read_manifest(fs::path(SLUICE_DEMO_RELEASE).parent_path() / "grok-1.json");
  REQUIRE(manifest.files.size() == tensors.size());
  for (const format::ManifestFile& file : manifest.files)
    CHECK(file.length_bytes == fs::file_size(folder / file.path));

  const auto checkpoint = format::open_checkpoint(folder.path());
  CHECK(checkpoint.kind == format::CheckpointKind::pickle);
  CHECK(checkpoint.files.size() == 770);
  const auto model = format::grok_config(checkpoint).description;
  CHECK(model.layer_count() == 64);
  std::uint64_t weights = 0;
  for (const auto& tensor : format::model_tensors(model)) {
    const auto places = format::grok_placements(tensor, model);
    const bool matrix = tensor.is_matrix() && tensor.role != format::TensorRole::embedding;
    const auto& place = places[matrix ? 0 : 1];
    const auto* found = checkpoint.find(place.name);
    REQUIRE(found != nullptr);
    CHECK(found->shape == place.shape);
    weights += format::element_count(tensor.shape).value();
  }
  CHECK(weights == 315'684'820'992);
}

/// A small release.
void write_release(const fs::path& folder, std::uint64_t layers) {
  fs::create_directories(folder / "ckpt-0");
  auto tensors = release(96, 40, 3, 1, 4, 24, 2, layers);
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    for (ArrayToPickle& array : tensors[i]) {
      const std::size_t count = format::element_count(array.shape).value();
      array.elements.assign(count * format::size_bytes(array.dtype), static_cast<char>(i));
    }
    write(file_of(folder / "ckpt-0", i), tests::pickled(tensors[i]));
  }
}

TEST_CASE("layers stand in the order of their numbers as text, and weights are code x scale") {
  const tests::TempDir folder;
  write_release(folder.path(), 12);
  const auto checkpoint = format::open_checkpoint(folder.path());
  const auto model = format::grok_config(checkpoint).description;
  CHECK(model.layer_count() == 12);
  CHECK(model.width == 40);
  CHECK(std::get<format::GroupedQueryAttention>(model.layer(0).mixer).heads == 3);
  const std::map<std::uint64_t, std::uint64_t> ranks{{0, 0}, {1, 1}, {10, 2}, {11, 3}, {2, 4}, {9, 11}};
  for (const auto& tensor : format::model_tensors(model)) {
    if (tensor.role != format::TensorRole::router || !ranks.contains(tensor.layer)) continue;
    const std::size_t number = 2 + ranks.at(tensor.layer) * 12 + 11;
    CHECK(format::grok_placements(tensor, model)[1].name == file_of("", number).string());
  }
}

TEST_CASE("a release with a tensor missing or of another shape is refused") {
  const tests::TempDir folder;
  write_release(folder.path(), 1);
  const auto open = [&] { return format::grok_config(format::open_checkpoint(folder.path())); };
  CHECK(open().description.layer_count() == 1);
  const fs::path query = file_of(folder / "ckpt-0", 7);
  fs::rename(query, folder / "query");
  CHECK_ERROR(open(), ErrorKind::malformed, "shard 7 of the checkpoint of 'tensor00000_000' is missing");
  write(query, tests::pickled({{DType::f32, {5}, std::string(20, '\0')}}));
  CHECK_ERROR(open(), ErrorKind::malformed, "tensor00007_000: has shape [5], expected 2 axes");
  fs::remove(query);
  fs::rename(folder / "query", query);
  fs::remove(file_of(folder / "ckpt-0", 13));
  CHECK_ERROR(open(), ErrorKind::malformed, "has 13 tensors, expected 2 and 12 for each layer");
}

}  // namespace
}  // namespace sluice
