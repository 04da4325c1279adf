// What a container in mx4 proves about its source by its own bytes.

#include "verify/kept_tensors.h"

#include <doctest/doctest.h>

#include <string>

#include "base/file.h"
#include "convert/convert.h"
#include "format/container_writer.h"
#include "format/tensor_digests.h"
#include "tests/support/mxfp4_release.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_release.h"

using namespace sluice;
using tests::TempDir;
using verify::LinkState;

namespace {

std::optional<verify::ChainLink> check(const std::filesystem::path& path, const verify::ChainInputs& inputs) {
  base::NoProgress progress;
  return verify::check_kept_tensors(format::ContainerReader::open(path), inputs, {.thread_count = 2},
                                    progress, {});
}

void convert_to(const std::filesystem::path& input, const std::filesystem::path& output,
                convert::Quant quant) {
  convert::Request request;
  request.input = input;
  request.output = output;
  request.quant = quant;
  base::NoProgress progress;
  static_cast<void>(convert::convert(request, progress, {}));
}

/// A sound container whose tensors in mx4 do not hold what it calls their source.
void write_liar(const std::filesystem::path& path) {
  auto params = tests::tiny_params();
  const auto description = format::describe(params);
  format::ContainerWriter writer(path, description);
  for (const format::ModelTensor& tensor : format::model_tensors(description)) {
    const auto storage = tests::storage_of(tensor, format::Storage::mx4_tiles);
    const bool kept = storage == format::Storage::mx4_tiles;
    writer.begin_tensor(tensor, storage, kept ? format::DType::mxfp4 : format::DType::bf16, 0);
    writer.append(std::vector<std::byte>(format::storage_bytes(storage, tensor.shape)));
    writer.end_tensor({});
  }
  static_cast<void>(writer.finish());
}

}  // namespace

TEST_CASE("a container in mx4 gives back its source digests, and a manifest's") {
  const TempDir folder;
  const auto release = tests::make_mx_release(9);
  tests::write_mx_release(folder.path(), release);
  convert_to(folder.path(), folder / "m.sluice", convert::Quant::q8);
  verify::ChainInputs inputs;
  auto link = check(folder / "m.sluice", inputs);
  REQUIRE(link.has_value());
  const std::string count = std::to_string(release.experts.size()) + " tensors in mx4";
  CHECK(link->link == "kept tensors");
  CHECK(link->state == LinkState::checked);
  CHECK(link->detail == count + " give back the released bytes that their source digests name");

  base::NoProgress progress;
  auto& manifest = inputs.release.manifest.emplace();
  manifest.tensors = format::digest_tensors(format::open_released_model(folder.path()), 1, progress, {});
  inputs.source = "x.manifest.json";
  link = check(folder / "m.sluice", inputs);
  CHECK(link->state == LinkState::checked);
  CHECK(link->detail.ends_with(", which are those of x.manifest.json"));
  for (auto& tensor : manifest.tensors)
    if (tensor.name == "layers.2.feed_forward.experts.1.w2.weight") tensor.digest = {};
  link = check(folder / "m.sluice", inputs);
  CHECK(link->state == LinkState::differs);
  CHECK(link->detail ==
        "'layers.2.feed_forward.experts.1.w2.weight' has another source digest in x.manifest.json");

  inputs.read_files = false;
  CHECK(check(folder / "m.sluice", inputs)->state == LinkState::unknown);
  // The chain has the link at its place, with the release at hand, too.
  inputs = {};
  inputs.folder = folder.path();
  const auto reader = format::ContainerReader::open(folder / "m.sluice");
  const auto chain = verify::check_chain(reader, inputs, {}, progress, {});
  const auto tensors = std::ranges::find(chain, "tensors", &verify::ChainLink::link);
  REQUIRE(tensors != chain.end());
  CHECK(tensors->state == LinkState::checked);
  CHECK(std::next(tensors)->link == "kept tensors");
  CHECK(std::next(tensors)->state == LinkState::checked);
}

TEST_CASE("a container that names another source than its tensors hold is found out") {
  const TempDir folder;
  write_liar(folder / "m.sluice");
  base::NoProgress progress;
  CHECK(verify::verify_container(folder / "m.sluice", {}, progress, {}).ok);
  const auto link = check(folder / "m.sluice", {});
  REQUIRE(link.has_value());
  CHECK(link->state == LinkState::differs);
  CHECK(link->detail ==
        "'layers.0.attention.wq.weight' does not give the source digest that the container records");
}

TEST_CASE("a container without mx4 has no such link") {
  const TempDir folder;
  tests::write_mx_release(folder.path(), tests::make_mx_release(9));
  convert_to(folder.path(), folder / "m.sluice", convert::Quant::bf16);
  CHECK_FALSE(check(folder / "m.sluice", {}).has_value());
}
