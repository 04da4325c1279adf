#pragma once
// The quality report of a conversion: what the container's recipe says about rounding errors.

#include "convert/convert.h"
#include "convert/quant_error.h"
#include "format/container_format.h"
#include "format/json.h"
#include "format/model_tensors.h"

namespace sluice::convert {

/// {"kinds": [{"name","type","bits_per_weight","relative_error"}, ..], "tensors": {NAME: relative error, ..},
/// "worst_experts": [{"layer","expert","relative_error"}, ..]}. "kinds" has all kinds of tensors, "tensors"
/// those that were rounded, in container order, and "worst_experts" the largest errors, the worst first.
[[nodiscard]] format::Json to_json(const QualityReport& report);

/// Sums the errors of the tensors of one kind, and of one expert.
class QualityTally {
 public:
  void add(const format::ModelTensor& tensor, format::Storage storage, const QuantError& error);
  [[nodiscard]] QualityReport report() const;

 private:
  struct Entry {
    format::ModelTensor tensor;
    format::Storage storage;
    QuantError error;
  };
  std::vector<Entry> entries_;
};

}  // namespace sluice::convert
