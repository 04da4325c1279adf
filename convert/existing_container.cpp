// Tells whether an existing container is what a conversion would make anew, so that it may be replaced. Only
// digests prove that: the fine-tunes of a model have the same names, shapes and parameters. The smallest
// tensors come first, because they differ as a rule, and only the same release is read to its end.

#include <algorithm>
#include <optional>
#include <vector>

#include "base/error.h"
#include "base/merkle.h"
#include "convert/convert.h"
#include "convert/plan.h"
#include "format/container_reader.h"
#include "format/hub/sections.h"

namespace sluice::convert {
namespace {

namespace fs = std::filesystem;
using format::ContainerReader;
using format::ContainerTensor;

constexpr std::uint64_t kReadBytes = 4u << 20;

std::string recorded_text(const format::Json* json, std::string_view key) {
  const format::Json* const value = json == nullptr ? nullptr : json->find(key);
  return value != nullptr && value->is_string() ? value->as_string(key) : std::string();
}

/// Whether tensors, types and shapes are the planned ones.
bool has_planned_tensors(const ContainerReader& container, const Plan& plan) {
  return std::ranges::equal(container.tensors(), plan.tensors, [](const auto& found, const auto& planned) {
    return found.name == planned.target.name && found.shape == planned.target.shape &&
           found.storage == planned.storage && found.source_dtype == planned.source->dtype;
  });
}

/// Whether each of its sections is one of those that this conversion writes. It may lack some: earlier
/// versions kept fewer files of a release. Nothing is lost when the container then gets them.
bool has_released_sections(const ContainerReader& container, const format::ReleasedModel& release) {
  const auto planned = format::released_sections(release);
  return std::ranges::all_of(container.sections(), [&](const format::ContainerSection& section) {
    return std::ranges::any_of(planned, [&](const format::ReleasedSection& one) {
      return one.name == section.name && base::as_text(container.bytes(section)) == one.content;
    });
  });
}

/// The digest that a container has as ContainerTensor::source_digest.
base::Sha256 digest_of_source(const Plan& plan, const PlannedTensor& tensor, base::Progress& progress,
                              const std::stop_token& stop) {
  const TensorSource source(*tensor.source, plan.files[tensor.source->file_index]);
  const std::uint64_t rows_max = std::max<std::uint64_t>(1, kReadBytes / source.row_bytes());
  base::LeafHasher hasher;
  std::vector<std::byte> rows;
  for (std::uint64_t row = 0; row < source.rows(); row += rows_max) {
    if (stop.stop_requested()) throw base::Error(base::ErrorKind::interrupted, "interrupted");
    source.read_rows(row, std::min(rows_max, source.rows() - row), rows);
    hasher.update(rows);
    progress.advance(rows.size());
  }
  return base::merkle_root(hasher.final());
}

bool has_released_weights(const ContainerReader& container, const Plan& plan, base::Progress& progress,
                          const std::stop_token& stop) {
  std::vector<std::size_t> order(plan.tensors.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::ranges::stable_sort(order, {}, [&](std::size_t i) { return plan.tensors[i].source->value_bytes(); });
  std::uint64_t bytes = 0;
  for (const PlannedTensor& tensor : plan.tensors) bytes += tensor.source->value_bytes();
  progress.begin("comparing", bytes);
  return std::ranges::all_of(order, [&](std::size_t i) {
    return digest_of_source(plan, plan.tensors[i], progress, stop) == container.tensors()[i].source_digest;
  });
}

}  // namespace

std::string difference_from(const fs::path& path, const Request& request, base::Progress& progress,
                            const std::stop_token& stop) {
  std::optional<ContainerReader> container;
  try {
    container.emplace(ContainerReader::open(path));
  } catch (const base::Error&) {
    return format::is_container(path) ? "is a .sluice file that cannot be read" : "is no .sluice file";
  }
  const format::Json& recipe = container->recipe();
  const MatrixTypes types = request.types.value_or(types_for(request.quant));
  const std::string calibration = request.calibration ? request.calibration->text_sha256 : std::string();
  if (recorded_text(recipe.find("calibration"), "text_sha256") != calibration)
    return "was made with another calibration";
  const Plan plan = Plan::make(request.input, types);
  if (recorded_text(&recipe, "quant") != to_string(request.quant)) return "holds other types of weights";
  if (!has_planned_tensors(*container, plan)) return "is another model, or holds other types of weights";
  if (!has_released_sections(*container, plan.release))
    return "has another tokenizer, another chat template or other parameters";
  if (!has_released_weights(*container, plan, progress, stop)) return "was made of other weights";
  container->require_whole();
  return {};
}

}  // namespace sluice::convert
