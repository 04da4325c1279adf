#pragma once
// Checkpoint in, container out: reads a release's tensors as a stream, quantizes the matrices into tiles and
// writes one .sluice file with digests. Same input, same bytes, whatever the number of threads.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "base/byte_range.h"
#include "base/digest.h"
#include "base/error.h"
#include "base/progress.h"
#include "convert/export.h"
#include "format/expert_statistics.h"

namespace sluice::convert {

enum class Quant : std::uint8_t { bf16, q8, q6, q4 };

/// Of the matrices in tiles. Norms and routers are always f32, the embedding bf16.
struct MatrixTypes {
  Quant experts = Quant::q4;
  Quant attention = Quant::q6;
  Quant head = Quant::q6;
};

/// What `convert --quant` stands for: q4 is for experts alone, beside attention and head in q6. Chosen by
/// what each costs: docs/quantization.md, tests/bench/sensitivity.py.
[[nodiscard]] MatrixTypes types_for(Quant quant);

/// A file of the release, as proven by whoever calls; the container records it.
struct SourceFile {
  std::string path;
  std::optional<std::uint64_t> length_bytes;
  std::string sha256;       ///< hex; empty when not known
  std::string pieces_root;  ///< BEP 52 tree of the file, hex; empty when not known
};

/// A text that the model was run on, and what its experts saw of it.
struct Calibration {
  std::string text_sha256;  ///< hex
  /// Called once, before the first layer, unless an earlier run has finished all experts.
  std::function<void()> begin;
  /// Called for one layer after the other, from 0 on, when the conversion comes to its experts; layers that
  /// an earlier run has finished are asked for, too.
  std::function<format::LayerStatistics(std::uint64_t layer)> statistics;
};

struct Request {
  std::filesystem::path input;  ///< a release folder, or its checkpoint file
  /// The .sluice file; replaced only when the new one is complete. Until then it stands beside it, as
  /// base::PartFile says, and a run that does not end leaves what is finished to the next one.
  std::filesystem::path output;
  Quant quant = Quant::q4;
  std::optional<MatrixTypes> types;  ///< other than types_for(quant), to measure what they cost
  std::uint64_t memory_bytes = 512u << 20;
  unsigned thread_count = 1;
  std::optional<Calibration> calibration;  ///< q4 only; for its memory see runtime::Calibrator
  /// For the caller alone, to be removed again: the recipe says which conversion it is of, and a finished one
  /// of the same is left as it is.
  bool scratch = false;
  // What the container records about where its input came from; empty when not known.
  std::string release_name;
  std::string infohash_v1;
  std::string infohash_v2;
  std::string licence;
  std::vector<SourceFile> files;
};

/// Relative RMS errors, |decoded - released| / |released|.
struct QualityReport {
  struct Tensor {
    std::string name;
    double relative_error = 0;
  };
  struct Kind {
    std::string name;  ///< "experts w1", "attention wq", "head", ..
    std::string type;
    double bits_per_weight = 0;  ///< scales counted, padding not
    double relative_error = 0;
  };
  struct Expert {
    std::uint64_t layer = 0;
    std::uint64_t expert = 0;
    double relative_error = 0;
  };
  std::vector<Tensor> tensors;        ///< matrices in tiles, in container order
  std::vector<Kind> kinds;            ///< all tensors, added up
  std::vector<Expert> worst_experts;  ///< the five largest errors, the worst first
};

/// One that saw too little of the calibration text; its layer's mean made up for it.
struct StarvedExpert {
  std::uint64_t layer = 0;
  std::uint64_t expert = 0;
  std::uint64_t tokens = 0;
};

/// As which the release was recognised, by its content.
struct SourceLayout {
  std::string files;       ///< "pth", "safetensors" or "gguf"
  std::string names;       ///< "native", "stacked", "hugging-face", "fused", "gguf", "gguf-per-expert"
  std::size_t shards = 0;  ///< files
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
  std::uint64_t calibration_tokens = 0;  ///< of the text that were run
  std::vector<StarvedExpert> starved;    ///< calibrated only
  std::size_t resumed_tensors = 0;       ///< that an earlier run had finished
  std::size_t converted_tensors = 0;     ///< all others
  base::Sha256 root;
  base::Sha256 file_sha256;
};

using ByteRange = base::ByteRange;

struct MendRequest {
  Request conversion;  ///< as the container was made: input and origin; output and quant are of no use
  std::filesystem::path container;
  std::vector<ByteRange> damage;
};

struct MendResult {
  std::size_t tensors = 0;          ///< that were converted again
  std::uint64_t written_bytes = 0;  ///< that differed
};

/// Writes the bytes of a .sluice file that are wrong anew: tensors out of the release they were made of, each
/// proven by its digest in the directory before a byte is written, tokenizer and parameters likewise,
/// padding, header and footer. Where the directory itself is damaged, the release is converted as a whole and
/// compared. Bytes that are right are not written; a kill in between costs no more than doing it again.
/// Error{verification} when the release does not give what the container had; otherwise as convert().
[[nodiscard]] MendResult mend(const MendRequest& request, base::Progress& progress,
                              const std::stop_token& stop);

/// A container that was made as Request::scratch.
[[nodiscard]] bool is_scratch(const std::filesystem::path& path);

/// Whether a run that ended with such an error leaves what it has finished to the next one.
[[nodiscard]] bool is_resumable(base::ErrorKind kind);

/// Error{malformed} for a checkpoint that is damaged, hostile, incomplete, contradicts its params.json or
/// holds NaN or infinity: one sentence naming file, tensor and cause, and nothing is left. Error{usage} when
/// another process makes the same output.
[[nodiscard]] Result convert(const Request& request, base::Progress& progress, const std::stop_token& stop);

}  // namespace sluice::convert
