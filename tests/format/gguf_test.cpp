#include "format/gguf/gguf.h"

#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <tuple>
#include <vector>

#include "base/bytes.h"
#include "base/file.h"
#include "format/checkpoint_map.h"
#include "format/gguf/gguf_writer.h"
#include "format/sentencepiece_model.h"
#include "tests/support/check_error.h"
#include "tests/support/pth_writer.h"
#include "tests/support/temp_dir.h"

using namespace sluice;
using base::ErrorKind;
using format::GgufHeader;
using format::GgufTensorType;
using std::string_literals::operator""s;
using tests::TempDir;

namespace {

template <typename T>
std::string raw(T value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof(value));
}

std::string text(std::string_view value) { return raw<std::uint64_t>(value.size()) + std::string(value); }

std::string pair(std::string_view key, std::uint32_t type, const std::string& value) {
  return text(key) + raw(type) + value;
}

std::string info(std::string_view name, std::vector<std::uint64_t> extents, std::uint32_t type,
                 std::uint64_t offset) {
  std::string bytes = text(name) + raw(static_cast<std::uint32_t>(extents.size()));
  for (const std::uint64_t extent : extents) bytes += raw(extent);
  return bytes + raw(type) + raw(offset);
}

std::string file(std::uint64_t tensors, std::uint64_t pairs, const std::string& rest, std::size_t data = 0) {
  std::string bytes = "GGUF" + raw<std::uint32_t>(3) + raw(tensors) + raw(pairs) + rest;
  bytes.resize(base::align_up(bytes.size(), 32) + data);
  return bytes;
}

/// The head of a model without weights, with all keys.
GgufHeader full_header() {
  GgufHeader header;
  header.set_string("general.architecture", "llama");
  for (const auto& [key, value] : {std::pair{"embedding_length", 64u},
                                   {"block_count", 2u},
                                   {"feed_forward_length", 128u},
                                   {"attention.head_count", 4u},
                                   {"attention.head_count_kv", 2u},
                                   {"rope.dimension_count", 16u},
                                   {"expert_count", 4u},
                                   {"expert_used_count", 2u},
                                   {"context_length", 99u}})
    header.set_u32("llama."s + key, value);
  header.set_f32("llama.attention.layer_norm_rms_epsilon", 1e-5F);
  header.set_f32("llama.rope.freq_base", 1e6F);
  header.set_string("tokenizer.ggml.model", "llama");
  header.set_strings("tokenizer.ggml.tokens",
                     std::vector<std::string>{"<unk>", "<s>", "</s>", "<0x00>", "a"});
  header.set_f32s("tokenizer.ggml.scores", std::vector<float>{0, 0, 0, 0, -1});
  header.set_i32s("tokenizer.ggml.token_type", std::vector<std::int32_t>{2, 3, 3, 6, 1});
  return header;
}

format::CheckpointIndex open(const TempDir& folder, const std::string& bytes) {
  tests::write_plainly(folder / "m.gguf", bytes);
  return format::open_gguf(folder / "m.gguf");
}

}  // namespace

TEST_CASE("what GgufHeader writes is read back") {
  const TempDir folder(tests::fast_directory());
  GgufHeader header = full_header();
  header.add_tensor("b", GgufTensorType::q8_0, {3, 64});
  header.add_tensor("a", GgufTensorType::bf16, {2, 3, 5});
  const std::string head = header.encode();
  const auto file = open(folder, head + std::string(3 * 68 + 20 + 64, '\0'));  // 204 -> 224; 60 -> 64
  REQUIRE(file.tensors.size() == 2);
  const auto& a = file.tensors[0];
  CHECK(a.name == "a");
  CHECK(a.shape == format::Shape{2, 3, 5});
  CHECK(a.offset_bytes == head.size() + 224);
  CHECK(a.extent_bytes == 60);
  const auto& b = file.tensors[1];
  CHECK(b.dtype == format::DType::q8_0);
  CHECK(b.extent_bytes == 204);

  const auto params = format::gguf_params(file);
  CHECK(params.dim == 64);
  CHECK(params.head_dim == 16);
  CHECK(params.vocab_size == 5);
  CHECK(params.num_experts == 4);
  CHECK(params.norm_eps == 1e-5);
  CHECK(params.rope_theta == 1e6);
  const auto tokenizer = format::parse_sentencepiece(format::gguf_tokenizer(file), "t");
  CHECK(tokenizer.pieces[4] == format::SentencePiece{"a", -1, format::PieceType::normal});
  CHECK(tokenizer.byte_fallback);
}

TEST_CASE("shards of a GGUF model make one checkpoint with the pairs of the first") {
  const TempDir folder(tests::fast_directory());
  GgufHeader first = full_header();
  first.add_tensor("b", GgufTensorType::f32, {8});
  GgufHeader second;
  second.set_u32("split.no", 1);
  second.add_tensor("a", GgufTensorType::f32, {8});
  tests::write_plainly(folder / "m-00001-of-00002.gguf", first.encode() + std::string(32, '\1'));
  tests::write_plainly(folder / "m-00002-of-00002.gguf", second.encode() + std::string(32, '\2'));
  const auto checkpoint = format::open_checkpoint(folder / "m-00002-of-00002.gguf");
  CHECK(checkpoint.kind == format::CheckpointKind::gguf);
  REQUIRE(checkpoint.files.size() == 2);
  REQUIRE(checkpoint.tensors.size() == 2);
  CHECK(checkpoint.tensors[0].name == "a");
  CHECK(checkpoint.tensors[0].file_index == 1);
  CHECK(format::gguf_params(checkpoint).dim == 64);
}

TEST_CASE("the split keys of shards are checked") {
  const TempDir folder(tests::fast_directory());
  struct Row {
    std::uint32_t number, count, tensors;  // of the second shard
    std::string cause;
  };
  const Row rows[] = {
      {1, 2, 2, ""},
      {0, 2, 2, "m-00002-of-00002.gguf: key 'split.no': is 0, expected 1 by the number in the file's name"},
      {1, 3, 2,
       "m-00002-of-00002.gguf: key 'split.count': is 3, expected 2 by the number of shards in the file's "
       "name"},
      {1, 2, 9,
       "m-00002-of-00002.gguf: key 'split.tensors.count': is 9, expected 2 by the tensors of all shards"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.cause);
    for (const std::uint32_t number : {0u, 1u}) {
      GgufHeader header;
      header.set_u32("split.no", number == 0 ? 0 : row.number);
      header.set_u32("split.count", number == 0 ? 2 : row.count);
      header.set_u32("split.tensors.count", number == 0 ? 2 : row.tensors);
      header.add_tensor(number == 0 ? "b" : "a", GgufTensorType::f32, {8});
      tests::write_plainly(folder / ("m-0000" + std::to_string(number + 1) + "-of-00002.gguf"),
                           header.encode() + std::string(32, '\1'));
    }
    if (row.cause.empty()) {
      CHECK(format::open_checkpoint(folder.path()).tensors.size() == 2);
      CHECK(format::open_checkpoint(folder / "m-00001-of-00002.gguf").tensors.size() == 2);
    } else {
      CHECK_ERROR(format::open_checkpoint(folder.path()), ErrorKind::malformed, row.cause);
    }
  }
  std::filesystem::rename(folder / "m-00002-of-00002.gguf", folder / "n.gguf");
  CHECK_ERROR(format::open_checkpoint(folder / "m-00001-of-00002.gguf"), ErrorKind::malformed,
              "shard 2 of the checkpoint of 'm-00001-of-00002.gguf' is missing: there must be 2");
  CHECK_ERROR(
      format::open_checkpoint(folder / "n.gguf"), ErrorKind::malformed,
      "n.gguf: is shard 2 of 2 (keys split.no, split.count), and its name does not lead to the others: "
      "the files of a split model lie in one folder as NAME-00001-of-00002.gguf and so on");
}

TEST_CASE("a scalar and a tensor with a short name are enough for a GGUF file") {
  const TempDir folder(tests::fast_directory());
  // 25 bytes of tensor infos; the count of tensors must not ask for more.
  std::string bytes = "GGUF" + raw<std::uint32_t>(3) + raw<std::uint64_t>(1) + raw<std::uint64_t>(1) +
                      pair("general.alignment", 4, raw<std::uint32_t>(1)) + info("s", {}, 0, 0);
  const auto file = open(folder, bytes + raw(1.5F));
  REQUIRE(file.tensors.size() == 1);
  CHECK(file.tensors[0].shape.empty());
  CHECK(file.tensors[0].extent_bytes == 4);
}

TEST_CASE("arrays that are longer than any model's are passed over") {
  const TempDir folder(tests::fast_directory());
  const auto write = [&](std::uint32_t type, std::uint64_t count, std::uint64_t bytes) {
    const std::string head = "GGUF" + raw<std::uint32_t>(3) + raw<std::uint64_t>(0) + raw<std::uint64_t>(2) +
                             text("long") + raw<std::uint32_t>(9) + raw(type) + raw(count);
    tests::write_plainly(folder / "m.gguf", head);
    std::filesystem::resize_file(folder / "m.gguf", head.size() + bytes);  // zeros, without disk space
    const std::string rest = pair("after", 4, raw<std::uint32_t>(7));
    std::ofstream(folder / "m.gguf", std::ios::app | std::ios::binary) << rest << std::string(32, '\0');
    return format::open_gguf(folder / "m.gguf");
  };
  // A quarter of a GiB of bytes; 16 MiB of empty strings; numbers of eight bytes.
  for (const auto& [type, count, bytes] : {std::tuple{1u, 250ull << 20, 250ull << 20},
                                           {8u, 2ull << 20, 16ull << 20},
                                           {12u, 2ull << 20, 16ull << 20}}) {
    CAPTURE(type);
    const auto file = write(type, count, bytes);
    CHECK(std::get<format::GgufLongArray>(file.gguf_pairs.at("long")).count == count);
    CHECK(std::get<std::uint64_t>(file.gguf_pairs.at("after")) == 7);
  }
  CHECK_ERROR(write(9, 2ull << 20, 24ull << 20), ErrorKind::malformed, "key 'long': is an array of arrays");
  CHECK_ERROR(write(13, 2ull << 20, 24ull << 20), ErrorKind::malformed, "has the value type 13");
  CHECK_ERROR(write(8, 4ull << 20, 16ull << 20), ErrorKind::malformed,
              "names 4194304 elements of key 'long'");

  GgufHeader header = full_header();
  header.set_strings("tokenizer.ggml.merges", std::vector<std::string>((1u << 20) + 1));
  CHECK(format::gguf_params(open(folder, header.encode())).dim == 64);
  GgufHeader long_vocabulary;
  long_vocabulary.set_string("tokenizer.ggml.model", "llama");
  long_vocabulary.set_strings("tokenizer.ggml.tokens", std::vector<std::string>((1u << 20) + 1));
  CHECK_ERROR(format::gguf_tokenizer(open(folder, long_vocabulary.encode())), ErrorKind::malformed,
              "key 'tokenizer.ggml.tokens': has 1048577 elements, and Sluice reads at most 1048576");
}

TEST_CASE("keys that would take too much memory are refused as a limit") {
  const TempDir folder(tests::fast_directory());
  std::string bytes = "GGUF" + raw<std::uint32_t>(3) + raw<std::uint64_t>(0) + raw<std::uint64_t>(17);
  const std::string million(1u << 20, '\0');
  for (char key = 'a'; key < 'a' + 17; ++key)
    bytes +=
        text(std::string(1, key)) + raw<std::uint32_t>(9) + raw<std::uint32_t>(1) + raw(1ull << 20) + million;
  CHECK_ERROR(
      open(folder, bytes), ErrorKind::malformed,
      "its keys and tensor names take more than the 128 MiB of memory that Sluice allows for them: this "
      "is a limit of the reader, the file need not be damaged");
}

TEST_CASE("a GGUF file that is cut at any byte is refused") {
  const TempDir folder(tests::fast_directory());
  GgufHeader header = full_header();
  header.add_tensor("a", GgufTensorType::f32, {8});
  const std::string whole = header.encode() + std::string(32, '\1');
  CHECK(open(folder, whole).tensors.size() == 1);
  for (std::size_t size = 0; size < whole.size(); ++size) {
    CAPTURE(size);
    CHECK_ERROR(open(folder, whole.substr(0, size)), ErrorKind::malformed, "m.gguf: ");
  }
}

TEST_CASE("bad GGUF files are refused with their cause") {
  struct Row {
    std::string bytes;
    std::string cause;
  };
  const std::string huge = raw<std::uint64_t>(~0ull);
  const Row rows[] = {
      {"GGUX" + std::string(60, '\0'), "is no GGUF file: it does not begin with 'GGUF'"},
      {"GGUF" + raw<std::uint32_t>(1) + std::string(60, '\0'), "is of GGUF version 1, expected 2 or 3"},
      {"GGUF" + raw<std::uint32_t>(0x3000000) + std::string(60, '\0'), "(big-endian), expected 2 or 3"},
      {file(~0ull, 0, ""), "names 18446744073709551615 tensors, for which its"},
      {file(0, 1u << 30, ""), "names 1073741824 pairs, for which its"},
      {file(0, 1, huge + std::string(16, 'x')),
       "key of pair 0: has 18446744073709551615 bytes, at most 65535"},
      {file(0, 1, raw<std::uint64_t>(60000) + std::string(16, 'x')),
       "key of pair 0 at byte 32: needs 60000 bytes"},
      {file(0, 1, pair("", 4, raw(1))), "key '': is not a proper name"},
      {file(0, 1, pair("a\n", 4, raw(1))), "is not a proper name"},
      {file(0, 2, pair("a", 4, raw(1)) + pair("a", 4, raw(1))), "key 'a': occurs twice"},
      {file(0, 1, pair("a", 13, raw(1))), "key 'a': has the value type 13, which is not known"},
      {file(0, 1, pair("a", 7, "\2")), "key 'a': is the truth value 2, expected 0 or 1"},
      {file(0, 1, pair("a", 8, huge)), "key 'a': has 18446744073709551615 bytes"},
      {file(0, 1, pair("a", 9, raw<std::uint32_t>(4) + huge)), "elements of key 'a', for which its"},
      {file(0, 1, pair("a", 9, raw<std::uint32_t>(8) + raw<std::uint64_t>(9))),
       "names 9 elements of key 'a'"},
      {file(0, 1, pair("a", 9, raw<std::uint32_t>(9) + raw<std::uint64_t>(1) + std::string(9, '\0'))),
       "key 'a': is an array of arrays"},
      {file(0, 1, pair("general.alignment", 4, raw<std::uint32_t>(24))), "expected a power of two"},
      {file(0, 1, pair("general.alignment", 4, raw<std::uint32_t>(0))), "expected a power of two"},
      {file(1, 0, info("t", {1, 1, 1, 1, 1}, 0, 0), 32), "tensor 't': has 5 axes, at most 4"},
      {file(1, 0, info("t", {256}, 16, 0), 96), "tensor 't': has the type IQ2_XXS, which is not supported: "},
      {file(1, 0, info("t", {32}, 4, 0), 32),
       "tensor 't': has the type Q4_2, which ggml itself has removed: convert the released weights, or a "
       "GGUF "
       "file of a type from Q2_K to Q8_0, IQ4_NL, IQ4_XS, MXFP4, F16, BF16 or F32"},
      {file(1, 0, info("t", {8}, 26, 0), 32), "tensor 't': has the type I32, which is not supported"},
      {file(1, 0, info("t", {8}, 4711, 0), 32), "tensor 't': has the type 4711, which is not known"},
      {file(1, 0, info("t", {1ull << 40, 1ull << 40}, 0, 0), 32), "tensor 't': has the impossible shape"},
      {file(1, 0, info("t", {0}, 0, 0), 32), "tensor 't': has the impossible shape [0]"},
      {file(1, 0, info("t", {16, 2}, 8, 0), 64),
       "tensor 't': rows of [2, 16] are no whole blocks of 32, as Q8_0 needs"},
      {file(1, 0, info("t", {288}, 14, 0), 256),
       "tensor 't': rows of [288] are no whole blocks of 256, as Q6_K needs"},
      {file(1, 0, info("t", {}, 12, 0), 160), "tensor 't': rows of [] are no whole blocks of 256"},
      {file(1, 0, info("t", {512}, 12, 0), 144), "tensor 't': ends beyond the end of the file"},
      {file(1, 0, info("t", {8}, 0, 32), 64), "tensor 't': begins at byte 32 of the data, expected 0"},
      {file(1, 0, info("t", {8}, 0, 0), 16), "tensor 't': ends beyond the end of the file"},
      {file(1, 0, info("t", {8}, 0, 0), 64), "has 32 bytes behind its last tensor"},
      {file(2, 0, info("t", {8}, 0, 0) + info("u", {8}, 0, 0), 64),
       "begins at byte 0 of the data, expected 32"},
      {file(2, 0, info("t", {8}, 0, 0) + info("t", {8}, 0, 32), 64), "tensor 't': occurs twice"},
  };
  const TempDir folder(tests::fast_directory());
  for (const Row& row : rows) {
    CAPTURE(row.cause);
    CHECK_ERROR(open(folder, row.bytes), ErrorKind::malformed, row.cause);
  }
}

TEST_CASE("what a damaged range of a GGUF file touches") {
  const TempDir folder(tests::fast_directory());
  GgufHeader header = full_header();
  header.add_tensor("b", GgufTensorType::q8_0, {3, 64});  // 204 bytes, filled up to 224
  header.add_tensor("a", GgufTensorType::bf16, {2, 3, 5});
  header.add_tensor("c", GgufTensorType::q4_0, {2, 2, 32});
  const std::string head = header.encode();
  const std::string bytes = head + std::string(224 + 64 + 96, '\1');
  const auto write = [&](const std::string& content) { tests::write_plainly(folder / "m.gguf", content); };
  const auto map_of = [&](std::uint64_t begin, std::uint64_t end) {
    return format::map_damaged_checkpoint(folder / "m.gguf",
                                          [=](std::uint64_t offset, std::uint64_t length) {
                                            return offset < end && begin < offset + length;
                                          })
        .value();
  };
  write(bytes);
  const auto map = map_of(bytes.size() - 1, bytes.size());
  CHECK(map.problem.empty());
  REQUIRE(map.parts.size() == 2);
  CHECK(map.parts[0].name == "GGUF head");
  CHECK(map.parts[0].length_bytes == head.size());
  CHECK(map.parts[1].name == "tensor data");
  CHECK(map.parts[1].offset_bytes + map.parts[1].length_bytes == bytes.size());
  REQUIRE(map.tensors.size() == 3);
  struct Touched {
    std::uint64_t at;  // in the data
    std::string tensor;
    format::RowSpan rows;
  };
  for (const auto& [at, name, rows] : {Touched{0, "b", {0, 0}},
                                       {67, "b", {0, 0}},
                                       {68, "b", {1, 1}},
                                       {203, "b", {2, 2}},
                                       {204, "", {}},
                                       {224 + 29, "a", {0, 0}},
                                       {224 + 30, "a", {1, 1}},
                                       {288 + 35, "c", {0, 0}},
                                       {288 + 36, "c", {1, 1}}}) {
    CAPTURE(at);
    for (const auto& tensor : map.tensors) {
      CAPTURE(tensor.name);
      const std::uint64_t begin = head.size() + at;
      CHECK(format::touches(tensor, begin, begin + 1) == (tensor.name == name));
      if (tensor.name == name) CHECK(format::touched_rows(tensor, begin, begin + 1) == rows);
    }
  }

  const auto damaged = map_of(20, 21);
  CHECK(damaged.tensors.empty());
  CHECK(damaged.problem == "which tensors it touches is not known: the head, which says so, is damaged");
  write(bytes.substr(0, head.size() + 2));  // cut short: the head still tells
  CHECK(map_of(head.size() + 2, bytes.size()).tensors.size() == 3);
  write(bytes + "more");
  CHECK(map_of(bytes.size(), bytes.size() + 4).tensors.size() == 3);
  write(bytes.substr(0, 50));
  CHECK(map_of(50, bytes.size()).problem.starts_with("which tensors it touches is not known: "));
  write("x" + bytes.substr(1));  // by its name
  CHECK(map_of(0, 1).problem.ends_with("is no GGUF file: it does not begin with 'GGUF'"));
}

TEST_CASE("models and tokenizers that are not supported are refused by name") {
  const TempDir folder(tests::fast_directory());
  {
    GgufHeader header;
    header.set_string("general.architecture", "qwen3next");
    header.set_string("tokenizer.ggml.model", "gpt2");
    const auto file = open(folder, header.encode());
    CHECK_ERROR(format::gguf_config(file), ErrorKind::malformed,
                "is 'qwen3next', supported are llama, qwen3moe, qwen2moe, olmoe, granitemoe, glm4moe, "
                "minimax-m2");
    CHECK_ERROR(format::gguf_params(file), ErrorKind::malformed, "is 'qwen3next', expected llama");
    CHECK_ERROR(format::gguf_tokenizer(file), ErrorKind::malformed, "is 'gpt2', supported is 'llama'");
  }
  GgufHeader header = full_header();
  header.set_f32("llama.expert_weights_scale", 2);
  header.set_u32("tokenizer.ggml.eos_token_id", 5);
  const auto file = open(folder, header.encode());
  CHECK_ERROR(format::gguf_params(file), ErrorKind::malformed,
              "key 'llama.expert_weights_scale': is not known, and may change the result");
  CHECK_ERROR(format::gguf_tokenizer(file), ErrorKind::malformed, "is 5, but there are 5 tokens");
}

TEST_CASE("the chat template of a GGUF is read when there is one") {
  const TempDir folder(tests::fast_directory());
  const auto chat_template = [&](std::string_view text) {
    GgufHeader header = full_header();
    if (!text.empty()) header.set_string("tokenizer.chat_template", std::string(text));
    return format::gguf_chat_template(open(folder, header.encode()));
  };
  CHECK(chat_template("").empty());
  CHECK(chat_template("{{ x }}\n") == "{{ x }}\n");
  CHECK_ERROR(chat_template("\xff"), ErrorKind::malformed, "key 'tokenizer.chat_template': is not UTF-8");
}
