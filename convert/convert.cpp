#include "convert/convert.h"

#include <cmath>

#include "base/error.h"
#include "convert/calibration.h"
#include "convert/plan.h"
#include "convert/quality.h"
#include "convert/tensor_pipeline.h"
#include "format/container_writer.h"
#include "format/json.h"

namespace sluice::convert {
namespace {

using format::Json;
using format::TensorRole;

constexpr std::uint64_t kMemoryBytesMin = 64u << 20;

/// Bits of the experts' weights over their number; of all matrices in a model without experts of this kind.
double expert_bits_per_weight(const Plan& plan) {
  double bits = 0;
  double weights = 0;
  for (const PlannedTensor& tensor : plan.tensors) {
    if (tensor.target.role != TensorRole::expert) continue;
    const auto& shape = tensor.target.shape;
    const double count = static_cast<double>(shape[0]) * static_cast<double>(shape[1]);
    bits += count * format::bits_per_weight(format::tile_type(tensor.storage), shape[0], shape[1]);
    weights += count;
  }
  return bits / weights;
}

class ContainerSink final : public TensorSink {
 public:
  explicit ContainerSink(format::ContainerWriter& writer) : writer_(writer) {}
  void begin_tensor(const format::ModelTensor& tensor, format::Storage storage, format::DType source_dtype,
                    std::uint64_t expert_bytes) override {
    writer_.begin_tensor(tensor, storage, source_dtype, expert_bytes);
  }
  void write(base::Bytes bytes) override { writer_.write(bytes); }
  void hash(base::Bytes bytes) override { writer_.hash(bytes); }
  void end_tensor(const base::Sha256& source_digest) override { writer_.end_tensor(source_digest); }

 private:
  format::ContainerWriter& writer_;
};

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
  return provenance;
}

Json recipe_json(Quant quant, double bits_per_weight, double relative_error) {
  const auto type = [&](TensorRole role) { return format::type_name(storage_for(role, quant)); };
  return Json::object({{"quant", to_string(quant)},
                       {"experts", type(TensorRole::expert)},
                       {"attention", type(TensorRole::attention)},
                       {"head", type(TensorRole::head)},
                       {"embedding", type(TensorRole::embedding)},
                       {"router", type(TensorRole::router)},
                       {"bits_per_weight", bits_per_weight},
                       {"relative_error", relative_error}});
}

}  // namespace

Result convert(const Request& request, base::Progress& progress, const std::stop_token& stop) {
  if (request.memory_bytes < kMemoryBytesMin)
    throw base::Error(base::ErrorKind::usage, "conversion needs at least 64 MiB of memory");
  if (request.calibration && request.quant != Quant::q4)
    throw base::Error(base::ErrorKind::usage, "only q4 can be calibrated");
  const Plan plan = Plan::make(request.input, request.quant);

  format::ContainerWriter writer(request.output, plan.release.params);
  writer.add_section("tokenizer", plan.release.tokenizer);
  writer.add_section("params.json", base::as_bytes(plan.release.params_text));

  ContainerSink sink(writer);
  TensorPipeline pipeline(sink, request.memory_bytes, request.thread_count, progress, stop);
  const std::uint64_t expert_bytes =
      format::expert_run_bytes(plan.release.params, storage_for(TensorRole::expert, request.quant));
  std::optional<CalibrationFeed> feed;
  if (request.calibration) feed.emplace(*request.calibration, plan.release.params);
  std::vector<TensorJob> jobs;
  for (std::size_t i = 0; i < plan.tensors.size(); ++i) {
    const PlannedTensor& tensor = plan.tensors[i];
    // Only the first matrix of an expert is aligned to a huge page; the others follow it.
    const bool starts_expert = tensor.target.role == TensorRole::expert &&
                               (i == 0 || plan.tensors[i - 1].target.role != TensorRole::expert ||
                                plan.tensors[i - 1].target.expert != tensor.target.expert ||
                                plan.tensors[i - 1].target.layer != tensor.target.layer);
    jobs.push_back({&tensor, &plan.files[tensor.source->file_index], starts_expert ? expert_bytes : 0});
  }
  progress.begin("converting", plan.input_bytes);
  const std::vector<QuantError> errors =
      pipeline.run(jobs, [&](const PlannedTensor& tensor) -> const Compensation* {
        return feed && tensor.target.role == TensorRole::expert ? &feed->find(tensor.target) : nullptr;
      });
  QuantError expert_error;
  QualityTally quality;
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    const PlannedTensor& tensor = *jobs[i].tensor;
    quality.add(tensor.target, tensor.storage, errors[i]);
    if (tensor.target.role == TensorRole::expert) expert_error += errors[i];
  }

  Result result;
  result.input_bytes = plan.input_bytes;
  result.bits_per_weight = expert_bits_per_weight(plan);
  if (expert_error.squared_weights > 0)
    result.relative_error = std::sqrt(expert_error.squared_error / expert_error.squared_weights);
  writer.set_provenance(provenance_json(request));
  result.quality = quality.report();
  Json recipe = recipe_json(request.quant, result.bits_per_weight, result.relative_error);
  if (feed) {
    recipe.set("calibration", feed->to_json());
    result.starved = feed->starved();
  }
  recipe.set("quality", to_json(result.quality));
  writer.set_recipe(std::move(recipe));
  const auto written = writer.finish();
  result.output_bytes = written.file_bytes;
  result.root = written.root;
  result.file_sha256 = written.file_sha256;
  return result;
}

}  // namespace sluice::convert
