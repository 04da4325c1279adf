#pragma once
// Where an export's values come from: a released checkpoint in any layout, or a container's tiles. Either
// gives each of the model's tensors by its native name as blocks of rows, in two steps, so that reading and
// decoding can overlap.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "format/model_params.h"
#include "format/model_tensors.h"

namespace sluice::convert {

/// One tensor. Thread-safe; lives no longer than its model.
class RowSource {
 public:
  virtual ~RowSource() = default;

  [[nodiscard]] virtual std::uint64_t rows() const = 0;
  [[nodiscard]] virtual std::uint64_t cols() const = 0;
  /// Blocks and the pieces they are decoded in begin at a multiple of this many rows: 1 or 64.
  [[nodiscard]] virtual std::uint64_t row_step() const = 0;
  /// The bytes of rows [first, first + count), as they are stored.
  virtual void read(std::uint64_t first, std::uint64_t count, std::vector<std::byte>& stored) const = 0;
  /// Rows [first, first + out.size() / cols()) out of what read(block_first, block_rows) gave.
  /// Error{malformed} for NaN and infinity.
  virtual void decode(base::Bytes stored, std::uint64_t block_first, std::uint64_t block_rows,
                      std::uint64_t first, std::span<float> out) const = 0;
};

class ModelRows {
 public:
  virtual ~ModelRows() = default;

  /// Error{usage} when there is nothing of that name; Error{malformed} as the readers say.
  [[nodiscard]] static std::unique_ptr<ModelRows> open(const std::filesystem::path& path);

  [[nodiscard]] virtual const format::ModelParams& params() const = 0;
  [[nodiscard]] virtual const std::string& params_text() const = 0;  ///< as released
  [[nodiscard]] virtual base::Bytes tokenizer() const = 0;           ///< tokenizer.model
  /// What the model is called, where that is known from its proven origin; else empty.
  [[nodiscard]] virtual std::string name() const = 0;
  [[nodiscard]] virtual std::string licence() const = 0;

  /// The narrowest of bf16, f16 and f32 in which all values of the tensor are exact.
  [[nodiscard]] virtual format::DType exact_dtype(const format::ModelTensor& tensor) const = 0;
  /// Error{verification} for a container's tensor that is not what its digest says.
  [[nodiscard]] virtual std::unique_ptr<RowSource> open_tensor(const format::ModelTensor& tensor) const = 0;
};

}  // namespace sluice::convert
