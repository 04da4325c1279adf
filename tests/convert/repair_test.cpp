// convert::repair restores a container from its release, and writes nothing else.

#include <doctest/doctest.h>

#include <algorithm>
#include <optional>
#include <random>

#include "base/file.h"
#include "convert/convert.h"
#include "format/container_reader.h"
#include "tests/support/check_error.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_release.h"

using namespace sluice;
using base::ErrorKind;
using convert::Quant;
using tests::TempDir;

namespace {

/// A container, and the bytes that it must have after a repair.
struct Container {
  TempDir dir;
  std::vector<std::byte> good;
  convert::RepairRequest request;

  explicit Container(Quant quant, std::optional<convert::MatrixTypes> types = std::nullopt) {
    const auto params = tests::tiny_params();
    std::filesystem::create_directory(dir / "release");
    tests::write_tiny_release(dir / "release", params, 1);
    request.container = dir / "m.sluice";
    request.conversion.input = dir / "release";
    request.conversion.release_name = "tiny";
    request.conversion.thread_count = 2;
    convert::Request conversion = request.conversion;
    conversion.output = request.container;
    conversion.quant = quant;
    conversion.types = types;
    base::NoProgress progress;
    static_cast<void>(convert::convert(conversion, progress, {}));
    good = base::read_file(request.container);
  }

  /// Flips a bit and reports its byte as damaged.
  void damage(std::uint64_t offset_bytes, unsigned bit = 3) {
    base::File file = base::File::open_update(request.container);
    std::byte byte = good.at(offset_bytes);
    byte ^= std::byte{1} << bit;
    file.write_at(offset_bytes, {&byte, 1});
    request.damage.push_back({offset_bytes, 1});
  }

  convert::RepairResult repair() const {
    base::NoProgress progress;
    return convert::repair(request, progress, {});
  }

  [[nodiscard]] bool is_good() const { return base::read_file(request.container) == good; }

  /// True when the folder has only the release and the container.
  [[nodiscard]] bool left_nothing() const {
    return std::distance(std::filesystem::directory_iterator(dir.path()), {}) == 2;
  }
};

}  // namespace

TEST_CASE("any flipped bit of a container is repaired by writing one byte") {
  std::mt19937_64 random(11);
  for (const Quant quant : {Quant::q4, Quant::q8, Quant::bf16}) {
    CAPTURE(static_cast<int>(quant));
    Container container(quant);
    const auto reader = format::ContainerReader::open(container.request.container);
    std::vector<std::uint64_t> offsets = {
        3,                                            // header
        reader.footer().directory_offset_bytes + 20,  // directory
        container.good.size() - 7,                    // footer
        reader.sections().front().offset_bytes,
        reader.tensors().front().offset_bytes - 1,  // padding, or the end of what is before
    };
    for (const auto& tensor : reader.tensors())
      offsets.push_back(tensor.offset_bytes + random() % tensor.length_bytes);
    for (int i = 0; i < 20; ++i) offsets.push_back(random() % container.good.size());
    for (const std::uint64_t offset : offsets) {
      CAPTURE(offset);
      container.request.damage.clear();
      container.damage(offset, static_cast<unsigned>(random() % 8));
      CHECK(container.repair().written_bytes == 1);
      REQUIRE(container.is_good());
    }
    CHECK(container.left_nothing());
  }
}

TEST_CASE("only the tensors that are damaged are converted again") {
  Container container(Quant::q4);
  const auto reader = format::ContainerReader::open(container.request.container);
  container.damage(reader.tensors()[3].offset_bytes);
  container.damage(reader.tensors()[3].offset_bytes + 9);
  container.damage(reader.tensors()[7].offset_bytes);
  const auto result = container.repair();
  CHECK(result.tensors == 2);
  CHECK(result.written_bytes >= 3);
  CHECK(container.is_good());
}

TEST_CASE("a container of other types than its quantization usually has is repaired in them") {
  Container container(
      Quant::q4, convert::MatrixTypes{
                     .experts = Quant::q4, .attention = Quant::q8, .head = Quant::bf16, .tied_head = {}});
  const auto reader = format::ContainerReader::open(container.request.container);
  container.damage(reader.find("layers.0.attention.wq.weight")->offset_bytes);
  container.damage(reader.find("output.weight")->offset_bytes);
  CHECK(container.repair().tensors == 2);
  CHECK(container.is_good());
  container.request.damage.clear();
  container.damage(reader.footer().directory_offset_bytes + 20);
  static_cast<void>(container.repair());
  CHECK(container.is_good());
}

TEST_CASE("another release repairs nothing") {
  Container container(Quant::q4);
  const auto params = tests::tiny_params();
  tests::write_tiny_release(container.dir / "release", params, tests::make_tiny_tensors(params, 2));
  const auto reader = format::ContainerReader::open(container.request.container);
  container.damage(reader.tensors()[3].offset_bytes);
  const auto damaged = base::read_file(container.request.container);
  CHECK_ERROR(container.repair(), ErrorKind::verification,
              "the release does not give what the container had");
  CHECK(base::read_file(container.request.container) == damaged);
  container.request.damage.clear();
  container.damage(reader.footer().directory_offset_bytes + 20);
  const auto worse = base::read_file(container.request.container);
  CHECK_ERROR(container.repair(), ErrorKind::verification, "gives another one");
  CHECK(base::read_file(container.request.container) == worse);
  CHECK(container.left_nothing());
}
