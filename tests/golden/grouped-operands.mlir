#map = affine_map<(d0, d1, d2, d3, d4, d5, d6, d7) -> (d0, d1, d5, d3 + d6, d4 + d7)>
#map1 = affine_map<(d0, d1, d2, d3, d4, d5, d6, d7) -> (d1, d2, d5, d6, d7)>
#map2 = affine_map<(d0, d1, d2, d3, d4, d5, d6, d7) -> (d0, d1, d2, d3, d4)>
#map3 = affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>
module {
  func.func @kernel(%arg0: tensor<2x4x5x5xf16>, %arg1: tensor<6x2x3x3xf16>, %arg2: !hal.buffer {iree.abi.output = 0 : index}) -> tensor<2x6x3x3xf16> {
    %expanded = tensor.expand_shape %arg0 [[0], [1, 2], [3], [4]] output_shape [2, 2, 2, 5, 5] : tensor<2x4x5x5xf16> into tensor<2x2x2x5x5xf16>
    %expanded_0 = tensor.expand_shape %arg1 [[0, 1], [2], [3], [4]] output_shape [2, 3, 2, 3, 3] : tensor<6x2x3x3xf16> into tensor<2x3x2x3x3xf16>
    %0 = tensor.empty() : tensor<2x2x3x3x3xf32>
    %cst = arith.constant 0.000000e+00 : f32
    %1 = linalg.fill ins(%cst : f32) outs(%0 : tensor<2x2x3x3x3xf32>) -> tensor<2x2x3x3x3xf32>
    %2 = linalg.generic {indexing_maps = [#map, #map1, #map2], iterator_types = ["parallel", "parallel", "parallel", "parallel", "parallel", "reduction", "reduction", "reduction"]} ins(%expanded, %expanded_0 : tensor<2x2x2x5x5xf16>, tensor<2x3x2x3x3xf16>) outs(%1 : tensor<2x2x3x3x3xf32>) {
    ^bb0(%in: f16, %in_1: f16, %out: f32):
      %5 = arith.extf %in : f16 to f32
      %6 = arith.extf %in_1 : f16 to f32
      %7 = arith.mulf %5, %6 : f32
      %8 = arith.addf %out, %7 : f32
      linalg.yield %8 : f32
    } -> tensor<2x2x3x3x3xf32>
    %collapsed = tensor.collapse_shape %2 [[0], [1, 2], [3], [4]] : tensor<2x2x3x3x3xf32> into tensor<2x6x3x3xf32>
    %3 = tensor.empty() : tensor<2x6x3x3xf16>
    %4 = linalg.generic {indexing_maps = [#map3, #map3], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%collapsed : tensor<2x6x3x3xf32>) outs(%3 : tensor<2x6x3x3xf16>) {
    ^bb0(%in: f32, %out: f16):
      %5 = arith.truncf %in : f32 to f16
      linalg.yield %5 : f16
    } -> tensor<2x6x3x3xf16>
    return %4 : tensor<2x6x3x3xf16>
  }
}
