#pragma once
// Descriptions of released models of many families, made from their published configurations. Between them
// they use every field that a description has; docs/families.md lists them.

#include <string>
#include <vector>

#include "format/model_description.h"

namespace sluice::tests {

struct Family {
  std::string model;
  double billion_weights;  ///< of all its tensors, as published
  format::ModelDescription description;
};

[[nodiscard]] std::vector<Family> families();

}  // namespace sluice::tests
