// Conversions that take several runs. tests/cli/convert_kill_test.py kills them.

#include <doctest/doctest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/part_file.h"
#include "convert/convert.h"
#include "format/container_reader.h"
#include "format/model_tensors.h"
#include "tests/support/check_error.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_release.h"

using namespace sluice;
using base::ErrorKind;
using convert::Quant;
using tests::TempDir;
namespace fs = std::filesystem;

namespace {

constexpr std::size_t kHeaderBytes = 128;
constexpr std::size_t kRecordBytes = 104;

/// Requests a stop after a number of encoded blocks. Every tensor of a tiny release is one block.
class StoppingProgress final : public base::Progress {
 public:
  explicit StoppingProgress(std::size_t blocks) : left_(blocks) {}
  void begin(std::string_view phase, std::uint64_t) override { converting_ = phase == "converting"; }
  void advance(std::uint64_t) override {
    if (converting_ && left_ > 0 && --left_ == 0) stop.request_stop();
  }
  void warn(std::string_view message) override { warnings.emplace_back(message); }

  std::stop_source stop;
  std::vector<std::string> warnings;

 private:
  bool converting_ = false;
  std::size_t left_;
};

struct Fixture {
  Fixture() {
    fs::create_directory(folder / "release");
    fs::create_directory(folder / "out");
    tests::write_tiny_release(folder / "release", tests::tiny_params(), 5);
    request.input = folder / "release";
    request.output = folder / "out" / "m.sluice";
    request.thread_count = 2;
    whole = make_whole(Quant::q4);
  }

  std::vector<std::byte> make_whole(Quant quant) {
    convert::Request undisturbed = request;
    undisturbed.output = folder / "whole.sluice";
    undisturbed.quant = quant;
    base::NoProgress progress;
    static_cast<void>(convert::convert(undisturbed, progress, {}));
    return base::read_file(undisturbed.output);
  }

  /// Stops after a number of encoded blocks; returns the message of the error.
  std::string stop_after(std::size_t blocks) {
    StoppingProgress progress(blocks);
    try {
      static_cast<void>(convert::convert(request, progress, progress.stop.get_token()));
    } catch (const base::Error& error) {
      CHECK(error.kind() == ErrorKind::interrupted);
      return error.what();
    }
    FAIL("it was not stopped");
    return {};
  }

  convert::Result go_on() {
    StoppingProgress progress(0);
    auto result = convert::convert(request, progress, {});
    warnings = progress.warnings;
    CHECK(result.resumed_tensors + result.converted_tensors == tensors);
    CHECK_FALSE(fs::exists(part));
    CHECK_FALSE(fs::exists(journal));
    return result;
  }

  [[nodiscard]] std::size_t journalled() const {
    return fs::exists(journal) ? (fs::file_size(journal) - kHeaderBytes) / kRecordBytes : 0;
  }

  const TempDir folder;
  const fs::path part = folder / "out" / ".m.sluice.part";
  const fs::path journal = folder / "out" / ".m.sluice.part.journal";
  const std::size_t tensors = format::model_tensors(format::describe(tests::tiny_params())).size();
  convert::Request request;
  std::vector<std::byte> whole;
  std::vector<std::string> warnings;
};

}  // namespace

TEST_CASE_FIXTURE(Fixture, "a conversion stopped anywhere goes on, and gives the same bytes") {
  for (std::size_t blocks = 1; blocks <= tensors; ++blocks) {
    const std::string said = stop_after(blocks);
    const std::size_t finished = journalled();
    CAPTURE(blocks);
    REQUIRE(finished == blocks - 1);
    REQUIRE_FALSE(fs::exists(request.output));
    if (finished == 0) {
      REQUIRE(said == "interrupted");
      REQUIRE(fs::is_empty(folder / "out"));
    } else {
      REQUIRE(said == "interrupted; " + std::to_string(finished) + " of " + std::to_string(tensors) +
                          " tensors are finished in " + part.string() +
                          ", and the same command goes on from there");
    }
    const auto result = go_on();
    REQUIRE(result.resumed_tensors == finished);
    REQUIRE(warnings.empty());
    REQUIRE(base::read_file(request.output) == whole);
    fs::remove(request.output);
  }
}

TEST_CASE_FIXTURE(Fixture, "a conversion stopped after every tensor converts every tensor once") {
  std::size_t runs = 0;
  for (std::size_t before = 0; before < tensors - 1; ++runs) {
    static_cast<void>(stop_after(2));
    REQUIRE(journalled() == before + 1);
    before = journalled();
  }
  CHECK(runs == tensors - 1);
  CHECK(go_on().converted_tensors == 1);
  CHECK(base::read_file(request.output) == whole);
}

TEST_CASE_FIXTURE(Fixture, "errors and quality are those of the whole conversion") {
  static_cast<void>(stop_after(tensors / 2));
  const auto resumed = go_on();
  const auto again = go_on();
  CHECK(again.resumed_tensors == 0);
  CHECK(resumed.relative_error == again.relative_error);
  CHECK(resumed.root == again.root);
  CHECK(resumed.file_sha256 == again.file_sha256);
  CHECK(resumed.quality.tensors.size() == again.quality.tensors.size());
}

TEST_CASE_FIXTURE(Fixture, "what was changed, lost or cut in the part file is done again, and nothing else") {
  const auto reader = format::ContainerReader::open(folder / "whole.sluice");
  for (std::size_t i = 0; i + 3 < tensors; i += 4) {
    for (const bool cut : {false, true}) {
      CAPTURE(i);
      static_cast<void>(stop_after(tensors - 1));
      const auto& tensor = reader.tensors()[i];
      if (cut) {  // as the end of a file that was not durable when the power went
        fs::resize_file(part, tensor.offset_bytes + tensor.length_bytes / 2);
      } else {
        std::byte value{};
        base::File file = base::File::open_update(part);
        file.read_exact_at(tensor.offset_bytes + tensor.length_bytes / 2, base::MutableBytes(&value, 1));
        value ^= std::byte{0x10};
        file.write_at(tensor.offset_bytes + tensor.length_bytes / 2, base::Bytes(&value, 1));
      }
      const auto result = go_on();
      REQUIRE(result.resumed_tensors == i);
      REQUIRE(warnings == std::vector{part.string() + ": tensor '" + tensor.name +
                                      "' is not what was written; the conversion goes on from it"});
      REQUIRE(base::read_file(request.output) == whole);
    }
  }
}

TEST_CASE_FIXTURE(Fixture, "every byte between the tensors is written again") {
  static_cast<void>(stop_after(tensors - 1));
  const auto reader = format::ContainerReader::open(folder / "whole.sluice");
  base::File file = base::File::open_update(part);
  file.write_at(0, base::as_bytes("header"));
  file.write_at(reader.sections()[0].offset_bytes, base::as_bytes("tokenizer"));
  for (std::size_t i = 0; i + 3 < tensors; ++i) {
    const std::uint64_t end = reader.tensors()[i].offset_bytes + reader.tensors()[i].length_bytes;
    if (end < reader.tensors()[i + 1].offset_bytes) file.write_at(end, base::as_bytes("x"));
  }
  CHECK(go_on().resumed_tensors == tensors - 2);
  CHECK(warnings.empty());
  CHECK(base::read_file(request.output) == whole);
}

TEST_CASE_FIXTURE(Fixture, "a conversion that is another one starts over, and says why") {
  const auto starts_over = [&](const std::string& why) {
    CHECK(go_on().resumed_tensors == 0);
    CHECK(warnings == std::vector{part.string() + ": " + why + "; the conversion starts over"});
  };
  static_cast<void>(stop_after(tensors - 1));
  request.quant = Quant::q8;
  starts_over("it was begun with other options");
  CHECK(base::read_file(request.output) == make_whole(Quant::q8));

  static_cast<void>(stop_after(tensors - 1));
  tests::write_tiny_release(request.input, tests::tiny_params(), 6);
  starts_over("it was made of another release, or of other files");
  CHECK(base::read_file(request.output) == make_whole(Quant::q8));

  // Memory and threads do not belong to the identity of a conversion.
  static_cast<void>(stop_after(tensors - 1));
  request.thread_count = 1;
  request.memory_bytes = 64u << 20;
  CHECK(go_on().resumed_tensors == tensors - 2);
  CHECK(warnings.empty());
}

TEST_CASE_FIXTURE(Fixture, "a release that turns out to be bad leaves nothing, also after a resumption") {
  static_cast<void>(stop_after(tensors - 1));
  auto bad = tests::make_tiny_tensors(tests::tiny_params(), 5);
  bad.back().bf16[7] = 0x7fc0;  // NaN
  tests::write_tiny_release(request.input, tests::tiny_params(), bad);
  base::NoProgress progress;
  CHECK_ERROR(convert::convert(request, progress, {}), ErrorKind::malformed, bad.back().name);
  CHECK(fs::is_empty(folder / "out"));
}

TEST_CASE_FIXTURE(Fixture, "one output is made by one conversion") {
  const base::PartFile other(request.output);
  base::NoProgress progress;
  CHECK_ERROR(convert::convert(request, progress, {}), ErrorKind::usage,
              request.output.string() + ": another process is making this file");
}

TEST_CASE_FIXTURE(Fixture,
                  "a container for the caller alone is made once, and again when it is not what was made") {
  request.scratch = true;
  request.quant = Quant::q8;
  CHECK(go_on().converted_tensors == tensors);
  const auto made = base::read_file(request.output);
  const auto before = base::identify(request.output);
  CHECK(go_on().resumed_tensors == tensors);
  CHECK(base::identify(request.output) == before);
  CHECK(convert::is_scratch(request.output));

  const auto offset = format::ContainerReader::open(request.output).tensors()[3].offset_bytes;
  base::File::open_update(request.output).write_at(offset, base::as_bytes("damage"));
  CHECK(go_on().converted_tensors == tensors);
  CHECK(base::read_file(request.output) == made);

  request.quant = Quant::q4;
  CHECK(go_on().converted_tensors == tensors);
  CHECK_FALSE(convert::is_scratch(folder / "whole.sluice"));
}
