#pragma once
// The front door of `convert`: a checkpoint in, a container out. It streams a release's tensors, quantizes
// the matrices into tiles and writes one .sluice file with digests. The same input gives the same bytes, for
// any number of threads and on any machine. Export, the reverse, is in export.h.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "base/byte_range.h"
#include "base/digest.h"
#include "base/error.h"
#include "base/progress.h"
#include "convert/export.h"
#include "format/expert_statistics.h"
#include "format/hub/skipped_tensors.h"

namespace sluice::convert {

enum class Quant : std::uint8_t { bf16, q8, q6, q4 };

/// "bf16", "q8", "q6", "q4", as recipes and `--quant` spell it.
[[nodiscard]] std::string_view to_string(Quant quant);
[[nodiscard]] std::optional<Quant> parse_quant(std::string_view name);

/// The types of the matrices in tiles. Norms and routers are always f32, the embedding bf16.
struct MatrixTypes {
  Quant experts = Quant::q4;
  Quant attention = Quant::q6;
  Quant head = Quant::q6;
  /// The type of a matrix that is embedding and head (decision 0028); absent: that of a head.
  std::optional<Quant> tied_head = {};
};

/// `convert --quant` stands for these types: with q4 only the experts are q4, attention and head are q6. A
/// matrix that comes in MXFP4 stays so, except where its type is bf16 (decision 0036). The
/// choice follows from what each costs: docs/quantization.md, tests/bench/sensitivity.py.
[[nodiscard]] MatrixTypes types_for(Quant quant);

/// A file of the release, as the caller has verified it; the container records it.
struct SourceFile {
  std::string path;
  std::optional<std::uint64_t> length_bytes;
  std::string sha256;       ///< hex; empty when unknown
  std::string pieces_root;  ///< root of the file's BEP 52 tree, hex; empty when unknown
};

/// A file of the release that differs from its references, and is converted because the user insists.
struct DamagedSource {
  std::string path;
  std::string state;    ///< as the JSON of `verify` spells it: "damaged", "missing", ...
  std::string problem;  ///< one sentence: expected and found
};

/// A text that the model was run on, and statistics of the inputs that its experts saw.
struct Calibration {
  std::string text_sha256;  ///< hex
  /// Called once, before the first layer, unless an earlier run has finished all experts.
  std::function<void()> begin;
  /// Called once for each layer, in order from 0, when the conversion reaches the layer's experts; also for
  /// layers that an earlier run has finished.
  std::function<format::LayerStatistics(std::uint64_t layer)> statistics;
};

struct Request {
  std::filesystem::path input;  ///< a release folder, or its checkpoint file
  /// The .sluice file; replaced only when the new one is complete. Until then the new one is a part file next
  /// to it (base::PartFile), and a run that is interrupted leaves its finished tensors to the next one.
  std::filesystem::path output;
  Quant quant = Quant::q4;
  std::optional<MatrixTypes> types;  ///< replaces types_for(quant), to measure what other types cost
  std::uint64_t memory_bytes = 512u << 20;
  unsigned thread_count = 1;
  std::optional<Calibration> calibration;  ///< q4 only; runtime::Calibrator says what memory it takes
  /// A scratch container is for the caller alone, who removes it again: its recipe names the conversion that
  /// it belongs to, and a finished one of the same conversion is kept.
  bool scratch = false;
  // The container records these facts about the origin of its input; they are empty when unknown.
  std::string release_name;
  std::string infohash_v1;
  std::string infohash_v2;
  std::string licence;
  std::vector<SourceFile> files;
  std::vector<DamagedSource> damage;  ///< recorded, so that the container never passes for a sound one
};

/// Relative RMS errors, |decoded - released| / |released|.
struct QualityReport {
  struct Tensor {
    std::string name;
    double relative_error = 0;
  };
  struct Kind {
    std::string name;  ///< "experts w1", "attention wq", "head", ...
    std::string type;
    double bits_per_weight = 0;  ///< includes scales, excludes padding
    double relative_error = 0;
  };
  struct Expert {
    std::uint64_t layer = 0;
    std::uint64_t expert = 0;
    double relative_error = 0;
  };
  std::vector<Tensor> tensors;        ///< matrices in tiles, in container order
  std::vector<Kind> kinds;            ///< all tensors, summed by kind
  std::vector<Expert> worst_experts;  ///< the five largest errors, the worst first
};

/// An expert that saw too few tokens of the calibration text; the mean of its layer filled its moments up.
struct UnderCalibratedExpert {
  std::uint64_t layer = 0;
  std::uint64_t expert = 0;
  std::uint64_t tokens = 0;
};

/// The layout that was recognised from the release's content.
struct SourceLayout {
  std::string files;       ///< format::to_string(CheckpointKind)
  std::string names;       ///< "native", "stacked", "hugging-face", "fused", "gguf", "gguf-per-expert"
  std::size_t shards = 0;  ///< number of files
};

struct Result {
  SourceLayout layout;
  std::uint64_t input_bytes = 0;   ///< tensor bytes read
  std::uint64_t output_bytes = 0;  ///< size of the container
  /// Codes, sub-scales and row scales of the experts over the number of expert weights, without padding.
  double bits_per_weight = 0;
  /// Relative RMS error of the expert weights: |decoded - released| / |released|.
  double relative_error = 0;
  QualityReport quality;
  std::uint64_t calibration_tokens = 0;                 ///< number of tokens that the model was run on
  std::vector<UnderCalibratedExpert> under_calibrated;  ///< only with a calibration
  std::uint64_t kept_tensors = 0;                       ///< in MXFP4, stored as mx4 as they were released
  std::uint64_t spare_rows = 0;                         ///< rows of the embedding that no token uses
  std::size_t resumed_tensors = 0;                      ///< tensors that an earlier run had finished
  std::size_t converted_tensors = 0;                    ///< tensors that this run converted
  base::Sha256 root;                                    ///< of the container: format::ContainerReader::root()
  base::Sha256 tensors_sha256;                          ///< of its weights alone
  base::Sha256 file_sha256;
};

struct RepairRequest {
  Request conversion;  ///< input and origin of the container; output and quant are not used
  std::filesystem::path container;
  std::vector<base::ByteRange> damage;
};

struct RepairResult {
  std::size_t tensors = 0;          ///< number of tensors that were converted again
  std::uint64_t written_bytes = 0;  ///< number of bytes that differed and were written
};

/// Repairs a .sluice file in place: writes its wrong bytes anew and leaves the right ones alone. Tensors,
/// tokenizer and parameters come from the release that the container was made of, and each is verified with
/// its digest in the directory before a byte is written; padding, header and footer follow from the
/// directory. When the directory itself is damaged, the whole release is converted and compared. A repair
/// that is killed can simply run again. Error{verification} when the release does not give what the container
/// had; otherwise as convert().
[[nodiscard]] RepairResult repair(const RepairRequest& request, base::Progress& progress,
                                  const std::stop_token& stop);

/// Says why the file at `path` is not the container that this request would make, as the rest of a sentence
/// ("was made of other weights"); empty when it is. Its types and its calibration text are compared, then
/// tokenizer, parameters and weights with the release, which is read until a tensor differs. What the request
/// says about the origin is not compared, and of the calibration only text_sha256 is used.
[[nodiscard]] std::string difference_from(const std::filesystem::path& path, const Request& request,
                                          base::Progress& progress, const std::stop_token& stop);

/// True for a container that was made with Request::scratch.
[[nodiscard]] bool is_scratch(const std::filesystem::path& path);

/// True when a run that ends with an error of this kind keeps its finished tensors for the next one.
[[nodiscard]] bool is_resumable(base::ErrorKind kind);

/// What is worth knowing of a release that can be converted.
struct Readiness {
  std::vector<std::string> skipped_keys;  ///< of config.json or params.json: not known, and without effect
  /// Tensors of the checkpoint that take no part in the computation.
  std::vector<format::SkippedTensors> skipped_tensors;
  std::uint64_t output_bytes = 0;                ///< the container's size, rounded up by a little
  std::optional<std::uint64_t> free_bytes = {};  ///< of the output's file system, where they are known
};

/// Refuses what convert() would refuse without reading a weight: a checkpoint, parameters or a tokenizer that
/// cannot be used (Error{malformed}), and an output for which there is no room (Error{no_space}).
Readiness require_convertible(const Request& request);

/// Error{malformed} for a checkpoint that is damaged, hostile, incomplete, contradicts its params.json or
/// holds NaN or infinity: one sentence names file, tensor and cause, and no file is left behind. Error{usage}
/// when another process is writing the same output.
[[nodiscard]] Result convert(const Request& request, base::Progress& progress, const std::stop_token& stop);

}  // namespace sluice::convert
