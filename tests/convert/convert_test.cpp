#include "convert/convert.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/hasher.h"
#include "base/merkle.h"
#include "convert/plan.h"
#include "convert/readiness.h"
#include "format/container_reader.h"
#include "tests/support/check_error.h"
#include "tests/support/pth_writer.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_release.h"

using namespace sluice;
using base::ErrorKind;
using convert::Quant;
using tests::TempDir;
using tests::TinyTensor;

namespace {

convert::Result run(const std::filesystem::path& input, const std::filesystem::path& output, Quant quant,
                    unsigned threads = 2, std::uint64_t memory = 512u << 20) {
  base::NoProgress progress;
  convert::Request request;
  request.input = input;
  request.output = output;
  request.quant = quant;
  request.thread_count = threads;
  request.memory_bytes = memory;
  return convert::convert(request, progress, {});
}

std::map<std::string, TinyTensor> by_name(const std::vector<TinyTensor>& tensors) {
  std::map<std::string, TinyTensor> map;
  for (const TinyTensor& tensor : tensors) map[tensor.name] = tensor;
  return map;
}

base::Bytes bytes_of(const TinyTensor& tensor) { return std::as_bytes(std::span(tensor.bf16)); }

std::string raw(const std::vector<std::byte>& bytes) { return std::string(base::as_text(bytes)); }

}  // namespace

TEST_CASE("an embedding that is the head is stored in tiles, in q8 where heads are in q6") {
  format::ModelDescription model = format::describe(tests::tiny_params());
  const auto embedding = [&] { return format::model_tensors(model).front(); };
  for (const Quant quant : {Quant::bf16, Quant::q8, Quant::q4})
    CHECK(convert::storage_for(embedding(), convert::types_for(quant)) == format::Storage::bf16_rows);
  model.tied_embeddings = true;
  const auto stored = [&](const convert::MatrixTypes& types) {
    return convert::storage_for(embedding(), types);
  };
  CHECK(stored(convert::types_for(Quant::bf16)) == format::Storage::bf16_tiles);
  CHECK(stored(convert::types_for(Quant::q8)) == format::Storage::q8_tiles);
  CHECK(stored(convert::types_for(Quant::q4)) == format::Storage::q8_tiles);
  CHECK(stored({.experts = Quant::q4, .attention = Quant::q4, .head = Quant::q6, .tied_head = {}}) ==
        format::Storage::q6_tiles);
}

TEST_CASE("bf16 keeps every released bit, and the source digests are of the released bytes") {
  const TempDir folder;
  auto params = tests::tiny_params();
  params.hidden_dim = 100;  // not whole tiles
  const auto tensors = tests::make_tiny_tensors(params, 1);
  tests::write_tiny_release(folder.path(), params, tensors);
  const auto result = run(folder.path(), folder / "m.sluice", Quant::bf16);
  CHECK(result.bits_per_weight == 16);
  CHECK(result.relative_error == 0);

  const auto reader = format::ContainerReader::open(folder / "m.sluice");
  const auto source = by_name(tensors);
  for (const auto& stored : reader.tensors()) {
    CAPTURE(stored.name);
    const TinyTensor& released = source.at(stored.name);
    CHECK(stored.source_digest == base::merkle_digest(bytes_of(released)));
    CHECK(reader.matches_digest(stored));
    const base::Bytes bytes = reader.bytes(stored);
    for (std::size_t i = 0; i < released.bf16.size(); ++i) {
      const std::uint64_t row = i / released.shape.back();
      const std::uint64_t col = i % released.shape.back();
      std::uint16_t bits = 0;
      switch (stored.storage) {
        case format::Storage::f32_rows: bits = base::load_le<std::uint16_t>(bytes, i * 4 + 2); break;
        case format::Storage::bf16_rows: bits = base::load_le<std::uint16_t>(bytes, i * 2); break;
        default: bits = base::load_le<std::uint16_t>(bytes, stored.tile_layout().code_offset_bytes(row, col));
      }
      REQUIRE(bits == released.bf16[i]);
    }
  }
}

TEST_CASE("q8, q6 and q4 decode to weights near the released ones, padding to zero") {
  for (const auto& [quant, bound] : {std::pair{Quant::q8, 0.01}, {Quant::q6, 0.025}, {Quant::q4, 0.08}}) {
    const TempDir folder;
    auto params = tests::tiny_params();
    params.hidden_dim = 100;
    const auto tensors = tests::make_tiny_tensors(params, 2);
    tests::write_tiny_release(folder.path(), params, tensors);
    const auto result = run(folder.path(), folder / "m.sluice", quant);
    const auto reader = format::ContainerReader::open(folder / "m.sluice");
    const auto source = by_name(tensors);
    double expert_error = 0;
    double expert_squares = 0;
    for (const auto& stored : reader.tensors()) {
      if (!format::is_tiled(stored.storage)) continue;
      CAPTURE(stored.name);
      const TinyTensor& released = source.at(stored.name);
      const format::TileLayout layout = stored.tile_layout();
      double error = 0;
      double squares = 0;
      for (std::uint64_t row = 0; row < layout.padded_rows; ++row) {
        for (std::uint64_t col = 0; col < layout.padded_cols; ++col) {
          const double found = static_cast<double>(format::weight_at(layout, reader.bytes(stored), row, col));
          if (row >= layout.rows || col >= layout.cols) {
            REQUIRE(found == 0);
            continue;
          }
          const auto expected =
              static_cast<double>(format::bf16_to_f32(released.bf16[row * layout.cols + col]));
          error += (found - expected) * (found - expected);
          squares += expected * expected;
        }
      }
      CHECK(std::sqrt(error / squares) < bound);
      if (stored.name.find("experts") != std::string::npos) expert_error += error, expert_squares += squares;
    }
    CHECK(result.relative_error == doctest::Approx(std::sqrt(expert_error / expert_squares)).epsilon(1e-6));
  }
}

/// Bytes of an expert's matrices in a container.
double stored_bits_per_weight(const format::ModelDescription& description, Quant quant) {
  double bits = 0;
  double weights = 0;
  for (const auto& tensor : format::model_tensors(description)) {
    if (!format::is_expert_matrix(tensor)) continue;
    const auto storage = convert::storage_for(tensor.quantization, convert::types_for(quant));
    bits += 8 * static_cast<double>(format::storage_bytes(storage, tensor.shape));
    weights += static_cast<double>(tensor.shape[0] * tensor.shape[1]);
  }
  return bits / weights;
}

TEST_CASE("an expert's weight takes 4.42 bits in stories-moe, 4.33 in Mixtral") {
  // The sizes are whole tiles, so there is no padding and the stored bytes are those of the weights.
  format::MistralParams mixtral;
  mixtral.dim = 4096;
  mixtral.n_layers = 32;
  mixtral.head_dim = 128;
  mixtral.hidden_dim = 14336;
  mixtral.n_heads = 32;
  mixtral.n_kv_heads = 8;
  mixtral.vocab_size = 32000;
  mixtral.num_experts = 8;
  mixtral.num_experts_per_tok = 2;
  CHECK(stored_bits_per_weight(format::describe(mixtral), Quant::q4) <= 4.33);
  mixtral.dim = 6144;  // 8x22B
  mixtral.hidden_dim = 16384;
  mixtral.n_layers = 56;
  mixtral.n_heads = 48;
  CHECK(stored_bits_per_weight(format::describe(mixtral), Quant::q4) <= 4.33);

  const TempDir folder;
  const auto result = run(SLUICE_DEMO_RELEASE, folder / "m.sluice", Quant::q4);
  CHECK(result.bits_per_weight <= 4.42);
  const auto reader = format::ContainerReader::open(folder / "m.sluice");
  CHECK(result.bits_per_weight == doctest::Approx(stored_bits_per_weight(reader.description(), Quant::q4)));
  double bits = 0;
  double weights = 0;
  for (const auto& tensor : reader.tensors()) {
    if (tensor.name.find(".experts.") == std::string::npos) continue;
    bits += 8 * static_cast<double>(tensor.length_bytes);
    weights += static_cast<double>(tensor.shape[0] * tensor.shape[1]);
  }
  CHECK(result.bits_per_weight == doctest::Approx(bits / weights));
  CHECK(result.layout.files == "pth");
  CHECK(result.layout.names == "native");
  CHECK(result.layout.shards == 1);
}

TEST_CASE("types other than the usual ones are kept, and told with their bits") {
  const TempDir folder;
  tests::write_tiny_release(folder.path(), tests::tiny_params(), 3);
  base::NoProgress progress;
  convert::Request request;
  request.input = folder.path();
  request.output = folder / "m.sluice";
  request.types = convert::MatrixTypes{
      .experts = Quant::q8, .attention = Quant::q4, .head = Quant::bf16, .tied_head = {}};
  const auto result = convert::convert(request, progress, {});
  const auto kind = [&](const std::string& name) {
    return *std::ranges::find(result.quality.kinds, name, &convert::QualityReport::Kind::name);
  };
  CHECK(kind("experts w1").type == "q8");
  CHECK(kind("experts w1").bits_per_weight == 8 + 32.0 / 64);
  CHECK(kind("attention wq").type == "q4");
  CHECK(kind("attention wq").bits_per_weight == 4 + 5.0 / 16 + 32.0 / 64);
  CHECK(kind("attention wq").relative_error > 0.01);
  CHECK(kind("head").type == "bf16");
  CHECK(kind("head").bits_per_weight == 16);
  CHECK(kind("head").relative_error == 0);
  CHECK(kind("embedding").bits_per_weight == 16);
  CHECK(kind("routers").bits_per_weight == 32);
  const auto reader = format::ContainerReader::open(folder / "m.sluice");
  CHECK(reader.find("layers.0.attention.wq.weight")->storage == format::Storage::q4_tiles);
  CHECK(reader.find("output.weight")->storage == format::Storage::bf16_tiles);
  CHECK(reader.find("layers.0.feed_forward.experts.0.w2.weight")->storage == format::Storage::q8_tiles);
}

TEST_CASE("the same input gives the same bytes, whatever the threads and the memory") {
  const TempDir folder;
  auto params = tests::tiny_params();
  params.dim = 128;
  params.hidden_dim = 320;
  tests::write_tiny_release(folder.path(), params, 3);
  for (const Quant quant : {Quant::bf16, Quant::q8, Quant::q6, Quant::q4}) {
    const auto first = run(folder.path(), folder / "1", quant, 1);
    const auto second = run(folder.path(), folder / "2", quant, 3, 64u << 20);
    const auto content = base::read_file(folder / "1");
    CHECK(content == base::read_file(folder / "2"));
    CHECK(first.root == second.root);
    CHECK(first.file_sha256 == base::hash<base::Sha256>(content));
    CHECK(first.output_bytes == content.size());
  }
}

TEST_CASE("transposed and shared storages give the same weights as plain ones") {
  const TempDir plain;
  const TempDir views;
  const auto params = tests::tiny_params();
  const auto tensors = tests::make_tiny_tensors(params, 4);
  tests::write_tiny_release(plain.path(), params, tensors);
  tests::write_tiny_release(views.path(), params, tensors);

  tests::PthWriter writer;
  for (const TinyTensor& tensor : tensors) {
    if (!tensor.name.ends_with("w2.weight")) {
      writer.add(tensor.name, format::DType::bf16, tensor.shape, base::as_text(bytes_of(tensor)));
      continue;
    }
    // A transposed view with strides, behind ten elements that do not belong to it.
    const std::uint64_t rows = tensor.shape[0];
    const std::uint64_t cols = tensor.shape[1];
    std::vector<std::uint16_t> storage(10, 0x7FC0);
    for (std::uint64_t c = 0; c < cols; ++c)
      for (std::uint64_t r = 0; r < rows; ++r) storage.push_back(tensor.bf16[r * cols + c]);
    writer.add_strided(tensor.name, format::DType::bf16, tensor.shape, {1, rows}, 10,
                       base::as_text(std::as_bytes(std::span(storage))));
  }
  writer.write(views / "consolidated.00.pth");
  for (const Quant quant : {Quant::bf16, Quant::q4})
    CHECK(run(plain.path(), plain / "m", quant).tensors_sha256 ==
          run(views.path(), views / "m", quant).tensors_sha256);
}

TEST_CASE("f32 and f16 checkpoints of the same values give the same experts") {
  const auto params = tests::tiny_params();
  const auto tensors = tests::make_tiny_tensors(params, 5);
  const TempDir bf16;
  tests::write_tiny_release(bf16.path(), params, tensors);
  const auto expected = run(bf16.path(), bf16 / "m", Quant::q8).tensors_sha256;
  const TempDir f32;
  tests::write_tiny_release(f32.path(), params, tensors);
  tests::PthWriter writer;
  for (const TinyTensor& tensor : tensors) {
    std::vector<std::byte> wide(tensor.bf16.size() * 4);
    for (std::size_t i = 0; i < tensor.bf16.size(); ++i) base::store_le(wide, i * 4 + 2, tensor.bf16[i]);
    writer.add(tensor.name, format::DType::f32, tensor.shape, raw(wide));
  }
  writer.write(f32 / "consolidated.00.pth");
  CHECK(run(f32.path(), f32 / "m", Quant::q8).tensors_sha256 == expected);
}

TEST_CASE("bad releases are refused with their cause, and nothing is written") {
  struct Case {
    const char* cause;
    void (*spoil)(format::MistralParams&, std::vector<TinyTensor>&);
  };
  const Case cases[] = {
      {"tensor 'layers.1.feed_forward.experts.3.w3.weight' is missing", [](auto&, auto& t) { t.pop_back(); }},
      {"is not part of the model",
       [](auto&, auto& t) {
         t.push_back({"extra.weight", {1}, {0}});
       }},
      {"has NaN at [0, 7]",
       [](auto&, auto& t) {
         for (auto& tensor : t)
           if (tensor.name == "layers.1.feed_forward.experts.3.w1.weight") tensor.bf16[7] = 0x7FC0;
       }},
      {"layers.1.feed_forward.experts.3.w2.weight': has infinity at [1, 2]",
       [](auto&, auto& t) {
         for (auto& tensor : t)
           if (tensor.name == "layers.1.feed_forward.experts.3.w2.weight")
             tensor.bf16[tensor.shape[1] + 2] = 0xFF80;
       }},
      {"params.json asks for", [](auto& p, auto&) { p.hidden_dim += 64; }},
      {"params.json asks for", [](auto& p, auto&) { p.n_kv_heads = 1; }},
      {"has shape [4, 64], params.json asks for [5, 64]", [](auto& p, auto&) { p.num_experts += 1; }},
      {"is not part of the model", [](auto& p, auto&) { p.n_layers -= 1; }},
  };
  for (const Case& c : cases) {
    CAPTURE(std::string(c.cause));
    const TempDir folder;
    auto params = tests::tiny_params();
    auto tensors = tests::make_tiny_tensors(params, 6);
    c.spoil(params, tensors);
    tests::write_tiny_release(folder.path(), params, tensors);
    std::filesystem::create_directory(folder / "out");
    CHECK_ERROR(run(folder.path(), folder / "out" / "m.sluice", Quant::q4), ErrorKind::malformed,
                std::string(c.cause));
    CHECK(std::filesystem::is_empty(folder / "out"));
  }
}

TEST_CASE("a tokenizer that run could not use is refused before anything is read or written") {
  const TempDir folder;
  auto params = tests::tiny_params();
  tests::write_tiny_release(folder.path(), params, 1);
  const auto path = folder / "tokenizer.model";
  const std::string whole = raw(base::read_file(path));
  struct Row {
    std::string bytes;
    const char* cause;
  };
  for (const auto& [bytes, cause] : {
           Row{"", "is empty, expected a SentencePiece model"},
           Row{std::string(70, '\0'),
               "holds 70 zero bytes, as an unfinished download does, expected a SentencePiece model"},
           Row{"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n",
               "is a Git LFS pointer, not the tokenizer it stands for"},
           Row{"<html>404</html>", "is a web page, not a tokenizer: the download saved an error page"},
           Row{"{\"version\": \"1.0\"}", "is a JSON file, expected a SentencePiece model"},
           Row{"Entry not found", "has a field of wire type 7, which is not known"},
           Row{whole.substr(0, 20000), "is cut off, or is no SentencePiece model"},
       }) {
    CAPTURE(cause);
    base::write_file(path, base::as_bytes(bytes));
    CHECK_ERROR(run(folder.path(), folder / "m.sluice", Quant::q4), ErrorKind::malformed,
                path.string() + ": " + cause);
    CHECK_FALSE(std::filesystem::exists(folder / "m.sluice"));
  }
}

TEST_CASE("a tokenizer with more tokens than the embedding has rows is refused by numbers") {
  const TempDir folder;
  auto params = tests::tiny_params();
  params.vocab_size = 2000;
  tests::write_tiny_release(folder.path(), params, tests::make_tiny_tensors(params, 1));
  CHECK_ERROR(run(folder.path(), folder / "m.sluice", Quant::q4), ErrorKind::malformed,
              (folder / "tokenizer.model").string() +
                  ": has 2048 tokens, but the model's embedding has 2000 rows (vocab_size): the two are not "
                  "of one model");
  params.vocab_size = 2112;  // padded, as many models are
  tests::write_tiny_release(folder.path(), params, tests::make_tiny_tensors(params, 1));
  CHECK(run(folder.path(), folder / "m.sluice", Quant::q4).spare_rows == 64);
}

TEST_CASE("an output for which there is no room is refused before the first byte, with the numbers") {
  using format::Storage;
  const TempDir folder;
  auto params = tests::tiny_params();
  tests::write_tiny_release(folder.path(), params, 1);
  convert::Request request;
  request.input = folder.path();
  // The folder of the output need not exist yet: the nearest one above it tells the file system.
  request.output = folder / "later" / "m.sluice";
  convert::require_convertible(request);
  CHECK_ERROR(convert::require_space(request.output, std::uint64_t{1} << 62), ErrorKind::no_space,
              request.output.string() +
                  ": the conversion writes 4.0 EiB (4611686018427387904 "
                  "bytes), but its file system has ");
}

TEST_CASE("missing files and unusable requests are refused") {
  const TempDir folder;
  tests::write_tiny_release(folder.path(), tests::tiny_params(), 6);
  CHECK_ERROR(run(folder / "nowhere", folder / "m", Quant::q4), ErrorKind::usage, "no such file");
  CHECK_ERROR(run(folder.path(), folder / "m", Quant::q4, 1, 1u << 20), ErrorKind::usage, "at least 64 MiB");
  CHECK_ERROR(run(folder.path(), folder / "no" / "m", Quant::q4), ErrorKind::io, "No such file");
  std::filesystem::remove(folder / "tokenizer.model");
  CHECK_ERROR(run(folder.path(), folder / "m", Quant::q4), ErrorKind::malformed,
              "tokenizer.model is missing");
}

TEST_CASE("a stop request ends a conversion and leaves nothing behind") {
  const TempDir folder;
  tests::write_tiny_release(folder.path(), tests::tiny_params(), 6);
  std::filesystem::create_directory(folder / "out");
  base::NoProgress progress;
  std::stop_source stop;
  stop.request_stop();
  convert::Request request;
  request.input = folder.path();
  request.output = folder / "out" / "m.sluice";
  CHECK_ERROR(convert::convert(request, progress, stop.get_token()), ErrorKind::interrupted, "interrupted");
  CHECK(std::filesystem::is_empty(folder / "out"));
}
