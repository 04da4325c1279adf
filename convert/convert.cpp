// Conversion: plans it (plan.h), takes over the tensors that an earlier run has finished, streams the others
// through the pipeline into the unfinished container, and completes it with provenance, recipe and quality
// report.
//
// The caller's thread runs this file; TensorPipeline has the workers. Whatever fails after the first byte
// goes through UnfinishedContainer::leave(), which decides whether the finished tensors stay for the next
// run. The container's bytes depend only on the release, the types and the calibration text: neither on
// threads, memory, block sizes nor on where earlier runs stopped.

#include "convert/convert.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "convert/calibration.h"
#include "convert/conversion_identity.h"
#include "convert/plan.h"
#include "convert/quality.h"
#include "convert/readiness.h"
#include "convert/tensor_pipeline.h"
#include "convert/unfinished_container.h"
#include "format/container_reader.h"
#include "format/container_writer.h"
#include "format/json.h"

namespace sluice::convert {
namespace {

using format::Json;
using format::QuantizationClass;

constexpr std::uint64_t kMemoryBytesMin = 64u << 20;
constexpr std::string_view kConversionKey = "conversion";  // in the recipe of a scratch container

/// Bits per weight of the expert tensors. A dense model's feed-forward matrices have the role of one expert.
double expert_bits_per_weight(const Plan& plan) {
  double bits = 0;
  double weights = 0;
  for (const PlannedTensor& tensor : plan.tensors) {
    if (!is_expert_matrix(tensor.target)) continue;
    const auto& shape = tensor.target.shape;
    const double count = static_cast<double>(shape[0]) * static_cast<double>(shape[1]);
    bits += count * format::bits_per_weight(format::tile_type(tensor.storage), shape[0], shape[1]);
    weights += count;
  }
  return bits / weights;
}

Json provenance_json(const Request& request) {
  Json provenance = Json::object();
  const auto set = [&](const char* key, const std::string& value) {
    if (!value.empty()) provenance.set(key, value);
  };
  set("release", request.release_name);
  set("infohash_v1", request.infohash_v1);
  set("infohash_v2", request.infohash_v2);
  set("licence", request.licence);
  Json files = Json::array();
  for (const SourceFile& file : request.files) {
    Json entry = Json::object({{"path", file.path}});
    if (file.length_bytes) entry.set("bytes", *file.length_bytes);
    if (!file.sha256.empty()) entry.set("sha256", file.sha256);
    if (!file.pieces_root.empty()) entry.set("pieces_root", file.pieces_root);
    files.push_back(std::move(entry));
  }
  if (!request.files.empty()) provenance.set("files", std::move(files));
  Json damage = Json::array();
  for (const DamagedSource& file : request.damage)
    damage.push_back(Json::object({{"path", file.path}, {"state", file.state}, {"problem", file.problem}}));
  if (!request.damage.empty()) provenance.set(std::string(format::kDamagedSourcesKey), std::move(damage));
  return provenance;
}

Json recipe_json(Quant quant, MatrixTypes types, bool tied, double bits_per_weight, double relative_error) {
  if (tied) types.head = types.tied_head.value_or(types.head);
  const auto type = [&](QuantizationClass quantization) {
    return format::type_name(storage_for(quantization, types));
  };
  return Json::object({{"quant", to_string(quant)},
                       {"experts", type(QuantizationClass::feed_forward)},
                       {"attention", type(QuantizationClass::attention)},
                       {"head", type(QuantizationClass::head)},
                       {"embedding", type(tied ? QuantizationClass::head : QuantizationClass::embedding)},
                       {"router", type(QuantizationClass::unquantized)},
                       {"bits_per_weight", bits_per_weight},
                       {"relative_error", relative_error}});
}

/// Says that the weights had been rounded before, which nothing in their values shows.
void record_quantized_source(const format::ReleasedModel& release, Json& recipe) {
  if (release.quantized_types.empty()) return;
  Json types = Json::object();
  for (const auto& [type, count] : release.quantized_types) types.set(type, count);
  recipe.set("lossy_source", true);
  recipe.set("source_types", std::move(types));
}

/// The number of matrices that were kept as released, although the recipe rounds others of their class.
std::uint64_t count_kept(const Plan& plan) {
  return static_cast<std::uint64_t>(
      std::ranges::count(plan.tensors, format::Storage::mx4_tiles, &PlannedTensor::storage));
}

void warn_of_quantized_source(const format::ReleasedModel& release, base::Progress& progress) {
  if (release.quantized_types.empty()) return;
  std::string types;
  for (const auto& [type, count] : release.quantized_types)
    types += (types.empty() ? "" : ", ") + std::to_string(count) + " " + type;
  progress.warn(release.files.front().string() +
                ": its weights have been quantized before (tensors: " + types +
                "); what that has lost stays lost, so prefer the released weights where you can get them");
}

/// The model runs all the same, so this is no error.
void warn_of_chat_template(const format::ReleasedModel& release, base::Progress& progress) {
  if (const std::string problem = chat_template_problem(release); !problem.empty())
    progress.warn(release.files.front().string() + ": " + problem + "; run --chat cannot use it");
}

MatrixTypes types_of(const Request& request) { return request.types.value_or(types_for(request.quant)); }

/// Bytes of the expert whose first tensor is `first`, with the alignment between its tensors: their storages
/// may differ, because some may be kept as they are.
std::uint64_t expert_extent_bytes(const Plan& plan, std::size_t first) {
  std::uint64_t end = 0;
  for (std::size_t i = first; i < plan.tensors.size(); ++i) {
    const PlannedTensor& tensor = plan.tensors[i];
    if (tensor.target.expert != plan.tensors[first].target.expert ||
        tensor.target.layer != plan.tensors[first].target.layer)
      break;
    end = base::align_up(end, format::kTensorAlignmentBytes) +
          format::storage_bytes(tensor.storage, tensor.target.shape);
  }
  return end;
}

std::vector<TensorJob> make_jobs(const Plan& plan) {
  std::vector<TensorJob> jobs;
  for (std::size_t i = 0; i < plan.tensors.size(); ++i) {
    const PlannedTensor& tensor = plan.tensors[i];
    // Only the first tensor of an expert is aligned to a huge page; the others follow it.
    const bool starts_expert =
        tensor.target.expert && (i == 0 || plan.tensors[i - 1].target.expert != tensor.target.expert ||
                                 plan.tensors[i - 1].target.layer != tensor.target.layer);
    const std::uint64_t expert_bytes = starts_expert ? expert_extent_bytes(plan, i) : 0;
    jobs.push_back({&tensor, &plan.files[tensor.source->file_index], expert_bytes});
  }
  return jobs;
}

std::uint64_t source_bytes(std::span<const TensorJob> jobs) {
  std::uint64_t bytes = 0;
  for (const TensorJob& job : jobs) bytes += job.tensor->source->value_bytes();
  return bytes;
}

bool is_of_expert(const TensorJob& job) { return is_expert_matrix(job.tensor->target); }

Plan make_plan(const Request& request) {
  if (request.memory_bytes < kMemoryBytesMin)
    throw base::Error(base::ErrorKind::usage, "conversion needs at least 64 MiB of memory");
  if (request.calibration && request.quant != Quant::q4)
    throw base::Error(base::ErrorKind::usage, "only q4 can be calibrated");
  Plan plan = Plan::make(request.input, types_of(request));
  const bool can_be_calibrated = std::ranges::any_of(plan.tensors, [](const PlannedTensor& tensor) {
    return is_expert_matrix(tensor.target) && tensor.storage == format::Storage::q4_tiles;
  });
  if (request.calibration && !can_be_calibrated) {
    throw base::Error(base::ErrorKind::usage,
                      request.input.string() +
                          ": its experts are MXFP4, which is kept as it is: there is nothing to calibrate; "
                          "convert without a calibration text");
  }
  return plan;
}

struct Room {
  std::uint64_t needed_bytes = 0;
  std::optional<std::uint64_t> free_bytes;
};
Room require_room(const Request& request, const Plan& plan) {
  const std::uint64_t needed = container_bytes(plan.release, make_jobs(plan));
  return {needed, require_space(request.output, needed)};
}

/// True for a complete container of this conversion whose bytes match all their digests.
bool is_finished(const std::filesystem::path& path, const std::string& conversion) {
  if (!std::filesystem::is_regular_file(path)) return false;
  try {
    const auto reader = format::ContainerReader::open(path);
    const Json* const recorded = reader.recipe().find(kConversionKey);
    return recorded != nullptr && recorded->as_string(path.string()) == conversion &&
           std::ranges::all_of(reader.tensors(),
                               [&](const auto& tensor) { return reader.matches_digest(tensor); }) &&
           std::ranges::all_of(reader.sections(),
                               [&](const auto& section) { return reader.matches_digest(section); });
  } catch (const base::Error&) {
    return false;  // then it is converted again
  }
}

/// One run of a conversion that may have begun in an earlier one.
class Conversion {
 public:
  Conversion(const Request& request, const Plan& plan, UnfinishedContainer& container)
      : request_(request), plan_(plan), jobs_(make_jobs(plan)), container_(container) {
    if (request.calibration) feed_.emplace(*request.calibration, plan.release.description);
  }

  Result run(std::string conversion, base::Progress& progress, const std::stop_token& stop) {
    // This comes first: it decides which jobs are left.
    container_.resume(plan_, jobs_, progress, stop);
    const std::size_t resumed = container_.finished().size();
    const auto jobs = std::span<const TensorJob>(jobs_).subspan(resumed);
    if (feed_) begin_calibration(jobs);
    convert(jobs, progress, stop);

    Result result = add_up();
    result.resumed_tensors = resumed;
    result.converted_tensors = jobs.size();
    Json recipe = recipe_json(request_.quant, types_of(request_), plan_.release.description.tied_embeddings,
                              result.bits_per_weight, result.relative_error);
    if (feed_) recipe.set("calibration", feed_->to_json());
    record_quantized_source(plan_.release, recipe);
    if (result.kept_tensors > 0)
      recipe.set(
          "kept",
          Json::object({{std::string(format::type_name(format::Storage::mx4_tiles)), result.kept_tensors}}));
    recipe.set("quality", to_json(result.quality));
    // Only scratch containers record their conversion; in others it would make equal containers differ
    // between builds.
    if (request_.scratch) recipe.set(std::string(kConversionKey), std::move(conversion));
    const auto written = container_.finish(provenance_json(request_), std::move(recipe));
    result.output_bytes = written.file_bytes;
    result.root = written.root;
    result.tensors_sha256 = written.tensors_sha256;
    result.file_sha256 = written.file_sha256;
    return result;
  }

 private:
  /// Restores the token counts of finished experts, and starts the run of the text only if experts are left
  /// to convert.
  void begin_calibration(std::span<const TensorJob> jobs) {
    container_.set_calibration(&*feed_);
    for (std::size_t i = 0; i < container_.finished().size(); ++i)
      feed_->restore(jobs_[i].tensor->target, container_.finished()[i].tokens);
    if (std::ranges::any_of(jobs, is_of_expert)) request_.calibration->begin();
  }

  void convert(std::span<const TensorJob> jobs, base::Progress& progress, const std::stop_token& stop) {
    const BlockSize size = TensorPipeline::block_size(request_.memory_bytes, request_.thread_count);
    TensorPipeline pipeline(container_, size, request_.thread_count, progress, stop);
    progress.begin("converting", source_bytes(jobs));
    if (!feed_) return pipeline.run(jobs);
    pipeline.run(jobs, [&](const PlannedTensor& tensor) -> const GptqFactors* {
      return is_expert_matrix(tensor.target) ? &feed_->find(tensor.target) : nullptr;
    });
  }

  /// Sums up all tensors, those of earlier runs from the journal.
  [[nodiscard]] Result add_up() const {
    QuantError expert_error;
    QualityTally quality;
    for (std::size_t i = 0; i < jobs_.size(); ++i) {
      const QuantError& error = container_.finished()[i].error;
      quality.add(jobs_[i].tensor->target, jobs_[i].tensor->storage, error);
      if (is_of_expert(jobs_[i])) expert_error += error;
    }
    Result result;
    result.layout = {std::string(format::to_string(plan_.release.kind)), plan_.release.layout,
                     plan_.release.files.size()};
    result.input_bytes = plan_.input_bytes;
    result.spare_rows = plan_.spare_rows;
    result.kept_tensors = count_kept(plan_);
    result.bits_per_weight = expert_bits_per_weight(plan_);
    if (expert_error.squared_weights > 0)
      result.relative_error = std::sqrt(expert_error.squared_error / expert_error.squared_weights);
    result.quality = quality.report();
    if (feed_) {
      result.calibration_tokens = feed_->tokens_total();
      result.under_calibrated = feed_->under_calibrated();
    }
    return result;
  }

  const Request& request_;
  const Plan& plan_;
  std::vector<TensorJob> jobs_;
  UnfinishedContainer& container_;
  std::optional<CalibrationFeed> feed_;
};

}  // namespace

bool is_scratch(const std::filesystem::path& path) {
  try {
    return std::filesystem::is_regular_file(path) &&
           format::ContainerReader::open(path).recipe().find(kConversionKey) != nullptr;
  } catch (const base::Error&) {
    return false;
  }
}

Readiness require_convertible(const Request& request) {
  Plan plan = make_plan(request);
  const Room room = require_room(request, plan);
  return {std::move(plan.release.skipped_keys), std::move(plan.release.skipped_tensors), room.needed_bytes,
          room.free_bytes};
}

Result convert(const Request& request, base::Progress& progress, const std::stop_token& stop) {
  // Everything that can be refused is refused here, before the first byte is written.
  const Plan plan = make_plan(request);
  const ConversionIdentity identity = identify(request, plan);
  const std::string conversion = base::to_hex(digest_of(identity));
  if (request.scratch && is_finished(request.output, conversion)) {
    Result result;
    result.resumed_tensors = plan.tensors.size();
    return result;
  }
  static_cast<void>(require_room(request, plan));
  if (!request.scratch) warn_of_quantized_source(plan.release, progress);
  if (!request.scratch) warn_of_chat_template(plan.release, progress);
  UnfinishedContainer container(request.output, identity, progress);
  try {
    return Conversion(request, plan, container).run(conversion, progress, stop);
  } catch (const base::Error& error) {
    container.leave(error);
  }
}

}  // namespace sluice::convert
