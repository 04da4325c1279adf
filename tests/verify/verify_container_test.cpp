#include <doctest/doctest.h>

#include <algorithm>
#include <random>

#include "base/file.h"
#include "format/container_reader.h"
#include "format/container_writer.h"
#include "tests/support/check_error.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_release.h"
#include "verify/verify.h"

using namespace sluice;
using base::ErrorKind;
using sluice::tests::TempDir;
using verify::FileState;
namespace fs = std::filesystem;

namespace {

format::MistralParams small_params() {
  format::MistralParams params;
  params.dim = 64;
  params.n_layers = 2;
  params.head_dim = 16;
  params.hidden_dim = 128;
  params.n_heads = 4;
  params.n_kv_heads = 2;
  params.vocab_size = 65;
  params.num_experts = 2;
  params.num_experts_per_tok = 1;
  return params;
}

/// A container with random bytes for weights: to verify asks only whether they are the bytes that were
/// written.
format::WrittenContainer write_container(const fs::path& path, format::Storage matrices) {
  std::mt19937 random(5);
  const auto description = format::describe(small_params());
  format::ContainerWriter writer(path, description);
  writer.add_section("tokenizer", base::as_bytes("not really a tokenizer"));
  writer.add_section("licence", base::as_bytes("Apache-2.0"));
  for (const format::ModelTensor& tensor : format::model_tensors(description)) {
    const auto storage = tests::storage_of(tensor, matrices);
    writer.begin_tensor(tensor, storage, format::DType::bf16,
                        format::expert_extent_bytes(description, 0, matrices));
    std::vector<std::byte> bytes(static_cast<std::size_t>(format::storage_bytes(storage, tensor.shape)));
    for (std::byte& b : bytes) b = static_cast<std::byte>(random());
    writer.append(bytes);
    writer.end_tensor({});
  }
  writer.set_recipe(format::Json::object({{"quant", "test"}}));
  return writer.finish();
}

verify::Report run(const fs::path& file, unsigned threads = 2, std::uint64_t memory_bytes = 1u << 20) {
  base::NoProgress progress;
  return verify::verify_container(file, {threads, memory_bytes}, progress, {});
}

/// The one range that is reported for a broken file.
verify::DamagedRange only_damage(const verify::Report& report) {
  CHECK_FALSE(report.ok);
  REQUIRE(report.files.size() == 1);
  CHECK(report.files[0].state == FileState::damaged);
  REQUIRE(report.files[0].damaged.size() == 1);
  CHECK(report.damaged_bytes == report.files[0].damaged[0].range.length_bytes);
  return report.files[0].damaged[0];
}

/// What verification says about a broken file: "malformed", or the report's problem. Never ok.
std::string outcome(const fs::path& file) {
  try {
    const auto report = run(file, 1);
    CHECK_FALSE(report.ok);
    return report.files.at(0).problem;
  } catch (const base::Error& error) {
    CHECK(error.kind() == ErrorKind::malformed);
    CHECK(std::string(error.what()).starts_with(file.string() + ": "));
    return "malformed";
  }
}

void flip(base::File& file, std::uint64_t at_byte, int bit) {
  std::byte b{};
  file.read_exact_at(at_byte, {&b, 1});
  b ^= std::byte{1} << bit;
  file.write_at(at_byte, {&b, 1});
}

}  // namespace

TEST_CASE("an intact container is ok, with any threads and memory") {
  const TempDir dir;
  for (const auto storage :
       {format::Storage::q4_tiles, format::Storage::q8_tiles, format::Storage::bf16_tiles}) {
    const auto written = write_container(dir / "m.sluice", storage);
    for (const unsigned threads : {1u, 3u}) {
      const auto report = run(dir / "m.sluice", threads, threads == 1 ? 0 : 1u << 20);
      CHECK(report.ok);
      CHECK(report.proven_by == std::vector<std::string>{"container"});
      CHECK(report.root_sha256 == base::to_hex(written.root));
      CHECK(report.bytes == written.file_bytes);
      CHECK(report.damaged_bytes == 0);
      REQUIRE(report.files.size() == 1);
      CHECK(report.files[0].path == "m.sluice");
      CHECK(report.files[0].state == FileState::ok);
      CHECK(report.files[0].bytes == written.file_bytes);
    }
  }
}

TEST_CASE("one flipped bit anywhere is found, and the part that holds it is named") {
  const TempDir dir;
  const fs::path path = dir / "m.sluice";
  const auto written = write_container(path, format::Storage::q4_tiles);
  const auto reader = format::ContainerReader::open(path);
  const std::uint64_t payload_end = reader.footer().directory_offset_bytes;

  // The borders of every part, and random places, more of them where few bytes mean much.
  std::vector<std::uint64_t> places;
  for (const auto& tensor : reader.tensors()) {
    for (const std::uint64_t at :
         {tensor.offset_bytes - 1, tensor.offset_bytes, tensor.offset_bytes + tensor.length_bytes - 1,
          tensor.offset_bytes + tensor.length_bytes})
      places.push_back(at);
  }
  for (const auto& section : reader.sections()) places.push_back(section.offset_bytes);
  std::mt19937_64 random(6);
  for (int i = 0; i < 200; ++i) places.push_back(random() % written.file_bytes);
  for (int i = 0; i < 200; ++i) places.push_back(payload_end + random() % (written.file_bytes - payload_end));
  for (std::uint64_t at = 0; at < 64; ++at) places.push_back(at);
  for (std::uint64_t at = 1; at <= format::kContainerFooterBytes; ++at)
    places.push_back(written.file_bytes - at);

  base::File file = base::File::open_update(path);
  for (const std::uint64_t at : places) {
    CAPTURE(at);
    const int bit = static_cast<int>(random() % 8);
    flip(file, at, bit);
    const auto report = run(path, 1);
    const auto found = only_damage(report);
    CHECK(at >= found.range.offset_bytes);
    CHECK(at < found.range.end_bytes());
    const std::string& problem = report.files[0].problem;
    std::string expected_part = "padding";
    std::string expected_tensor;
    if (at < format::kContainerHeaderBytes) {
      expected_part = "header";
      CHECK(found.range.length_bytes == 1);
      CHECK(problem == "the header is damaged");
    } else if (at >= written.file_bytes - format::kContainerFooterBytes) {
      expected_part = "footer";
      CHECK(found.range.length_bytes == 1);
      CHECK(problem == "the footer is damaged");
    } else if (at >= payload_end) {
      expected_part = "directory";
      CHECK(found.range.offset_bytes == payload_end);
      CHECK(problem.starts_with("the directory is damaged, which says where the tensors lie"));
    } else {
      for (const auto& tensor : reader.tensors())
        if (at >= tensor.offset_bytes && at < tensor.offset_bytes + tensor.length_bytes)
          expected_tensor = tensor.name;
      for (const auto& section : reader.sections())
        if (at >= section.offset_bytes && at < section.offset_bytes + section.length_bytes)
          expected_part = "section " + section.name;
    }
    if (expected_tensor.empty()) {
      CHECK(found.tensors.empty());
      CHECK(found.parts == std::vector{expected_part});
    } else {
      REQUIRE(found.tensors.size() == 1);
      CHECK(found.tensors[0].name == expected_tensor);
      CHECK(found.tensors[0].expert.has_value() == (expected_tensor.find("experts.") != std::string::npos));
      CHECK(found.parts.empty());
      CHECK(problem == "tensor '" + expected_tensor + "' does not have its digest");
    }
    flip(file, at, bit);
  }
  CHECK(run(path).ok);
}

TEST_CASE("a container that is cut anywhere, or has bytes after its end, is malformed") {
  const TempDir dir;
  const fs::path path = dir / "m.sluice";
  const auto written = write_container(path, format::Storage::q8_tiles);
  const auto content = base::read_file(path);
  std::vector<std::uint64_t> lengths;
  for (std::uint64_t length = 0; length < 100; ++length) lengths.push_back(length);
  for (std::uint64_t cut = 1; cut < 300; ++cut) lengths.push_back(written.file_bytes - cut);
  std::mt19937_64 random(8);
  for (int i = 0; i < 200; ++i) lengths.push_back(random() % written.file_bytes);
  for (std::uint64_t page = 4096; page < written.file_bytes; page += 4096) lengths.push_back(page);
  std::ranges::sort(lengths, std::greater{});
  base::File file = base::File::open_update(path);
  for (const std::uint64_t length : lengths) {
    CAPTURE(length);
    file.resize(length);
    CHECK(outcome(path) == "malformed");
  }
  file.write_at(0, content);
  CHECK(run(path).ok);
  file.resize(written.file_bytes + 1);
  CHECK(outcome(path) == "malformed");
}

TEST_CASE("all damaged parts are listed with their ranges and tensors") {
  const TempDir dir;
  const fs::path path = dir / "m.sluice";
  write_container(path, format::Storage::q4_tiles);
  const auto reader = format::ContainerReader::open(path);
  const auto* first = reader.find("layers.0.attention.wq.weight");
  const auto* second = reader.find("layers.1.feed_forward.experts.1.w2.weight");
  REQUIRE(first != nullptr);
  REQUIRE(second != nullptr);
  base::File file = base::File::open_update(path);
  flip(file, first->offset_bytes + 5, 0);
  flip(file, second->offset_bytes, 7);
  flip(file, reader.find_section("licence")->offset_bytes, 1);
  const auto report = run(path);
  REQUIRE(report.files.size() == 1);
  const auto& damaged = report.files[0].damaged;
  REQUIRE(damaged.size() == 3);
  CHECK(damaged[0].tensors.empty());
  CHECK(damaged[0].parts == std::vector<std::string>{"section licence"});
  REQUIRE(damaged[1].tensors.size() == 1);
  CHECK(damaged[1].tensors[0].name == first->name);
  CHECK_FALSE(damaged[1].tensors[0].layer.has_value());
  CHECK(damaged[1].range.offset_bytes == first->offset_bytes);
  CHECK(damaged[1].range.length_bytes == first->length_bytes);
  REQUIRE(damaged[2].tensors.size() == 1);
  CHECK(damaged[2].tensors[0].name == second->name);
  CHECK(damaged[2].tensors[0].layer == 1);
  CHECK(damaged[2].tensors[0].expert == 1);
  CHECK(report.files[0].problem == "section 'licence' does not have its SHA-256; 2 more parts are wrong");
  CHECK(report.damaged_bytes == 10 + first->length_bytes + second->length_bytes);
}

TEST_CASE("a container is known by footer or directory, and damage around the tensors does not hide them") {
  const TempDir dir;
  const fs::path path = dir / "model";  // no name to go by
  const auto written = write_container(path, format::Storage::q8_tiles);
  const auto reader = format::ContainerReader::open(path);
  base::File file = base::File::open_update(path);
  flip(file, 3, 1);
  CHECK(format::is_container(path));
  flip(file, reader.find("norm.weight")->offset_bytes, 0);
  const auto with_header = run(path).files.at(0);
  REQUIRE(with_header.damaged.size() == 2);
  CHECK(with_header.damaged[0].parts == std::vector<std::string>{"header"});
  CHECK(with_header.damaged[1].tensors.at(0).name == "norm.weight");
  flip(file, 3, 1);
  for (const std::uint64_t from_end : {128u, 120u, 100u, 70u, 40u, 8u, 1u}) {
    CAPTURE(from_end);
    flip(file, written.file_bytes - from_end, 5);
    const auto with_footer = run(path).files.at(0);
    REQUIRE(with_footer.damaged.size() == 2);
    CHECK(with_footer.damaged[0].tensors.at(0).name == "norm.weight");
    CHECK(with_footer.damaged[1].parts == std::vector<std::string>{"footer"});
    CHECK(with_footer.damaged[1].range.offset_bytes == written.file_bytes - from_end);
    flip(file, written.file_bytes - from_end, 5);
  }
  // Header and directory: the footer still vouches for what it is.
  flip(file, 100, 0);
  flip(file, reader.footer().directory_offset_bytes + 50, 0);
  const auto blind = run(path).files.at(0);
  REQUIRE(blind.damaged.size() == 2);
  CHECK(blind.damaged[0].parts == std::vector<std::string>{"header"});
  CHECK(blind.damaged[1].parts == std::vector<std::string>{"directory"});
  // Header and footer: the directory tells what both were.
  flip(file, reader.footer().directory_offset_bytes + 50, 0);
  flip(file, written.file_bytes - 1, 0);
  const auto ends = run(path).files.at(0);
  REQUIRE(ends.damaged.size() == 3);
  CHECK(ends.damaged[0].parts == std::vector<std::string>{"header"});
  CHECK(ends.damaged[1].tensors.at(0).name == "norm.weight");
  CHECK(ends.damaged[2].parts == std::vector<std::string>{"footer"});
  // Without footer and directory, nothing shows that it is a container.
  flip(file, reader.footer().directory_offset_bytes + 50, 0);
  CHECK(outcome(path) == "malformed");
}

TEST_CASE("a file that is not a container is an error, and verification can be stopped") {
  const TempDir dir;
  base::write_file(dir / "text", base::as_bytes("no container"));
  CHECK_ERROR(run(dir / "text"), ErrorKind::malformed, "text: ");
  CHECK_ERROR(run(dir / "none"), ErrorKind::io, "none");
  CHECK_ERROR(run(dir.path()), ErrorKind::io, "is a folder");
  write_container(dir / "m.sluice", format::Storage::q4_tiles);
  std::stop_source stop;
  stop.request_stop();
  base::NoProgress progress;
  CHECK_ERROR(verify::verify_container(dir / "m.sluice", {}, progress, stop.get_token()),
              ErrorKind::interrupted, "interrupted");
}

TEST_CASE("a container that changes while it is read is neither right nor wrong") {
  const TempDir dir;
  const fs::path path = dir / "m.sluice";
  write_container(path, format::Storage::q8_tiles);

  class Meddler final : public base::Progress {
   public:
    explicit Meddler(fs::path file) : file_(std::move(file)) {}
    void begin(std::string_view, std::uint64_t) override {}
    void advance(std::uint64_t) override {
      if (!std::exchange(done_, true)) fs::last_write_time(file_, fs::file_time_type{});
    }
    void warn(std::string_view) override {}

   private:
    fs::path file_;
    bool done_ = false;
  };

  Meddler meddler(path);
  const auto report = verify::verify_container(path, {}, meddler, {});
  CHECK_FALSE(report.ok);
  CHECK(report.files[0].state == FileState::changed);
  CHECK(report.files[0].problem == "changed while it was read");
}
